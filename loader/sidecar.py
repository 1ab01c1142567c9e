"""The process in the pod: attach, announce, follow the annotation. And the probe that the kubelet asks.

Three directories meet below /run/podrate (the webhook mounts them: webhook/sidecar.py):

    cgroup/   the node's /sys/fs/cgroup, read-only
    limit/    the downward API volume; its file `limit` holds the pod's podrate.io/limit annotation
    state/    in memory, lives as long as the pod, so also over our own restarts
"""

import json
import os
import signal
import sys
import time

from bandwidth.invalid import Invalid
from bandwidth.limit import Limit, decode, encode
from loader import bpf
from loader.cgroup import find_pod, mount_point
from loader.failure import Failure
from loader.shaper import Shaper, attached_ids

DIRECTORY = "/run/podrate"
POLL = 0.1  # seconds; the kubelet itself takes up to a second to move an annotation into the file
_QUEUE = "podrate-in:"  # loader.queue's device in /proc/net/dev: few pods have it, and need that module
PROBE_PATIENCE = 5.0  # seconds: below the probe's timeoutSeconds


def sidecar(directory: str = DIRECTORY) -> int:
    """Run until SIGTERM. The limit stays in force after it: the application still has its own shutdown to send.

    Raises Failure; and then nothing was attached, and the pod does not start.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # process 1 of a container has no default action
    state = State(os.path.join(directory, "state"))
    cgroup = find_pod(mount_point(os.path.join(directory, "cgroup")), os.environ.get("POD_UID", ""))
    source = Annotation(os.path.join(directory, "limit", "limit"))
    limit = source.first()
    with Shaper() as shaper:
        shaper.buckets.set(limit)
        queued = _follow_with_queue(limit, queued=_has_queue())  # before the attachment, for it may be refused
        ours = state.own(shaper.program_ids)
        shaper.attach(cgroup, bpf.EXCLUSIVE, ours)
        state.announce(cgroup, shaper)
        _log(f"limit {encode(shaper.buckets.limit())} is in force on {cgroup}")
        while True:
            time.sleep(POLL)
            try:
                changed = source.changed()
            except Invalid as error:
                _log(f"annotation: {error}; the limit {encode(shaper.buckets.limit())} stays in force")
                continue
            if changed is not None:
                shaper.buckets.set(changed)
                try:
                    queued = _follow_with_queue(changed, queued=queued)
                except Failure as failure:
                    _log(f"{failure}; the limit is kept without it")
                state.announce(cgroup, shaper)
                _log(f"limit {encode(shaper.buckets.limit())} is in force")


def _follow_with_queue(limit: Limit, *, queued: bool) -> bool:
    """The ingress queue, if this limit has one, in our own network namespace; returns whether it is there now.

    queued:  whether it was there before
    """
    if queued or limit.ingress_queue:
        from loader import queue

        queue.put(limit.ingress if limit.ingress_queue else None)
    return limit.ingress_queue


def _has_queue() -> bool:
    """Whether a loader before us, which was killed, has left one."""
    with open("/proc/self/net/dev") as devices:
        return _QUEUE in devices.read()


def probe(directory: str = DIRECTORY) -> int:
    """Wait until the loader announced a limit that it read back, and the kernel holds it attached; then 0.

    Waiting here rather than in the kubelet, which would ask again only after a whole second.
    """
    state = State(os.path.join(directory, "state"))
    deadline = time.monotonic() + PROBE_PATIENCE
    while True:
        announced = state.announced()
        if announced:
            cgroup, programs, limit = announced
            if attached_ids(cgroup) == tuple((each,) for each in programs):
                print(f"limit {limit} is in force on {cgroup}")
                return 0
        if time.monotonic() > deadline:
            what = "the loader has not attached a limit yet" if not announced else "other programs are attached"
            raise Failure("not-limited", what, "read the loader's log: kubectl logs POD -c podrate")
        time.sleep(0.01)


class Annotation:
    """The annotation's file. Read whole each time: the kubelet swaps a symlink above it, which inotify can't follow."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._text: str | None = None

    def first(self) -> Limit:
        """The limit to begin with. Raises Failure("annotation")."""
        try:
            limit = self.changed()
        except Invalid as error:
            raise Failure(
                "annotation", str(error), "create the pod again; the webhook writes this annotation"
            ) from None
        assert limit is not None  # noqa: S101  nothing was read before
        return limit

    def changed(self) -> Limit | None:
        """The limit, if the text is another than last time. Raises Invalid, once for each bad text."""
        try:
            with open(self._path) as file:
                text = file.read(4096)
        except (OSError, UnicodeDecodeError) as error:
            text = f"({error})"  # not JSON, so Invalid says it
        if text == self._text:
            return None
        self._text = text
        return decode(text)


class State:
    """What the loader leaves for its probe and for its own next run."""

    def __init__(self, directory: str) -> None:
        self._owned = os.path.join(directory, "programs")
        self._announced = os.path.join(directory, "announced")

    def own(self, program_ids: tuple[int, ...]) -> frozenset[int]:
        """Note these programs as ours, before they are attached; returns all that ever were.

        A loader that was killed finds its predecessor's programs attached, and may not look at them (that needs
        CAP_SYS_ADMIN): this is how it knows them from somebody else's.
        """
        with open(self._owned, "a+") as file:
            file.writelines(f"{each}\n" for each in program_ids)
            file.seek(0)
            return frozenset(int(line) for line in file if line.strip().isdecimal())

    def announce(self, cgroup: str, shaper: Shaper) -> None:
        """Say what is in force, as read back from the kernel. Atomic: a reader sees the old or the new."""
        said = {
            "cgroup": cgroup,
            "programs": shaper.program_ids,
            "limit": encode(shaper.buckets.limit()),
        }
        with open(self._announced + ".new", "w") as file:
            json.dump(said, file)
        os.rename(self._announced + ".new", self._announced)

    def announced(self) -> tuple[str, tuple[int, ...], str] | None:
        """The cgroup, the programs' ids and the limit that `announce` last said."""
        try:
            with open(self._announced) as file:
                said = json.load(file)
            return said["cgroup"], tuple(said["programs"]), said["limit"]
        except (
            FileNotFoundError,
            ValueError,
            KeyError,
            TypeError,
        ):  # not yet; or not ours, and then as good as not yet
            return None


def _log(line: str) -> None:
    print(f"podrate: {line}", file=sys.stderr, flush=True)
