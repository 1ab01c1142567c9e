"""What a person calls a cgroup: its directory, a PID, a systemd unit, a pod's UID, a pod's NAMESPACE/NAME."""

import os
import re
from collections.abc import Iterator

from loader import pods
from loader.cgroup import find_pod, mount_point, of_process
from loader.failure import Failure

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_UNIT = (".service", ".scope", ".slice", ".socket", ".mount", ".swap")  # those that have a cgroup: systemd.unit(5)
_REMEDY = (
    "name its directory below the cgroup2 mount, a PID, a systemd unit (nginx.service), a pod's UID or NAMESPACE/NAME"
)


def resolve(target: str) -> str:
    """The absolute path of the one cgroup v2 directory that a person named. Raises Failure("no-cgroup").

    Never another, and never the root: what can't be found, or is there twice, is a Failure.
    """
    if target.startswith(("/", ".")) or os.path.isfile(os.path.join(target, "cgroup.procs")):
        return _checked(target, target)
    if target.isascii() and target.isdecimal():
        return _checked(of_process(target), f"the cgroup of process {target}")
    if _UID.fullmatch(target):
        return _of_uid(target)
    if target.count("/") == 1:
        return _of_pod(target)
    if target and "/" not in target:
        return _of_unit(target)
    raise Failure("no-cgroup", f"{target!r} is no cgroup", _REMEDY)


def candidates() -> Iterator[str]:
    """What a TARGET may be here, for completion: units and pods, by name where that is known. Needs no rights."""
    known = pods.names()
    for directory, below, _ in os.walk(mount_point()):
        below.sort()
        for name in below:
            uid = pods.uid_of(name)
            if uid is not None:
                yield known.get(uid, uid)
            elif name.endswith(_UNIT) and "/user@" not in directory:
                yield name


def _checked(path: str, shown: str) -> str:
    real = os.path.realpath(path)
    if not os.path.isfile(os.path.join(real, "cgroup.procs")):
        why = "is not a cgroup" if os.path.exists(real) else "is not there"
        raise Failure("no-cgroup", f"{shown} {why}", _REMEDY)
    mount = mount_point()
    if real == os.path.realpath(mount):
        raise Failure("no-cgroup", f"{shown} is the root cgroup, the whole machine", _REMEDY)
    if not os.path.exists(os.path.join(real, "cgroup.events")):  # v1 has none
        raise Failure("no-cgroup", f"{shown} is a cgroup of version 1; version 2 is mounted at {mount}", _REMEDY)
    return real


def _of_uid(uid: str) -> str:
    try:
        return find_pod(mount_point(), uid)
    except Failure as failure:  # what it says is right here too, but not its remedy, which is the sidecar's
        raise Failure(failure.reason, failure.what, "see podrate status for the pods of this node") from None


def _of_pod(name: str) -> str:
    found = [uid for uid, known in pods.names().items() if known == name]
    if not found:
        what = f"{name} is neither a directory here nor a pod that has logs in {pods.LOGS}"
        raise Failure("no-cgroup", what, _REMEDY)
    there = []
    for uid in found:  # a pod that was made anew has the logs of the one before it for a while
        try:
            there.append(_of_uid(uid))
        except Failure as failure:
            last = failure
    if not there:
        raise last
    return _only(there, f"pod {name}")


def _of_unit(name: str) -> str:
    unit = name if name.endswith(_UNIT) else name + ".service"
    found = [os.path.join(directory, unit) for directory, below, _ in os.walk(mount_point()) if unit in below]
    # Of two the machine's own, as systemctl has it: each user's manager has a dbus.service too.
    found = [path for path in found if "/user@" not in os.path.dirname(path)] or found
    if not found:
        raise Failure("no-cgroup", f"no unit {unit} runs here: no cgroup below {mount_point()} has its name", _REMEDY)
    return _checked(_only(found, unit), unit)


def _only(found: list[str], what: str) -> str:
    if len(found) > 1:
        raise Failure("no-cgroup", f"{what} is there {len(found)} times: {' and '.join(found)}", "name one's directory")
    return found[0]
