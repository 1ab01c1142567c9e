"""cgroup v2: where it is mounted, and a pod's cgroup by its UID.

A cgroup is never guessed: whatever is not found is a Failure, because a limit on another cgroup (the root, say)
would filter the whole machine.
"""

from __future__ import annotations

import os

from loader.failure import Failure


def mount_point(below: str = "/") -> str:
    """The first cgroup2 mount at or below a directory, if nothing was mounted over it. Raises Failure("no-cgroup2").

    Not always /sys/fs/cgroup: a hybrid machine has it at /sys/fs/cgroup/unified, a container wherever it is bound.
    """
    below = os.path.realpath(below)
    version_1 = False
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            # proc(5): id parent major:minor root mount-point options [tag...] - type source super-options
            mount, _, filesystem = line.partition(b" - ")
            if filesystem.startswith((b"cgroup2 ", b"cgroup ")):
                # Space, tab, newline and backslash stand as octal escapes.
                fields = mount.split(b" ")
                path = os.fsdecode(fields[4].decode("unicode_escape").encode("latin-1"))
                inside = path == below or path.startswith(below.rstrip("/") + "/")
                if inside and _device(path) == fields[2].decode():
                    if filesystem.startswith(b"cgroup2 "):
                        return path
                    version_1 = True
    what = "no cgroup v2 is mounted" + ("" if below == "/" else f" at or below {below}") + ", only v1" * version_1
    in_pod = below != "/" and not version_1
    remedy = "mount the node's /sys/fs/cgroup there" if in_pod else "boot with systemd.unified_cgroup_hierarchy=1"
    raise Failure("no-cgroup2", what, remedy)


def _device(path: str) -> str:
    """Of the file system that is seen there, as mountinfo writes it; "" when there is no such path any more."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return ""
    return f"{os.major(device)}:{os.minor(device)}"


def find_pod(root: str, uid: str) -> str:
    """The cgroup of the pod with this UID, anywhere below `root`. Raises Failure("no-cgroup").

    By UID, never by a template, for each runtime and driver builds its own path: .../pod<uid> (cgroupfs driver) or
    ...-pod<uid, - as _>.slice (systemd driver), below kubepods, kubelet-kubepods (kind), or a QoS class.
    """
    remedy = "mount the node's /sys/fs/cgroup there, and set POD_UID from metadata.uid"
    if len(uid) < 32 or not all(character in "0123456789abcdef-" for character in uid):
        raise Failure("no-cgroup", f"{uid!a} is not a pod's UID", remedy)
    name, slice_name = f"pod{uid}", f"pod{uid.replace('-', '_')}.slice"
    found = []
    pending = [root]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    if entry.name == name or entry.name == slice_name or entry.name.endswith("-" + slice_name):
                        found.append(entry.path)
                    else:
                        pending.append(entry.path)
        except FileNotFoundError:
            continue  # another pod's, removed while we looked
    if len(found) == 1:
        return found[0]
    what = "is twice: " + " and ".join(found) if found else "is nowhere"
    raise Failure("no-cgroup", f"the cgroup of pod {uid} {what} below {root}", remedy)


def of_process(pid: str) -> str:
    """The cgroup that a process ("self", or a PID) is in. Raises Failure("no-cgroup")."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            path = os.fsdecode(next((line[3:].rstrip(b"\n") for line in file if line.startswith(b"0::")), b"/"))
    except OSError:
        raise Failure("no-cgroup", f"there is no process {pid}", "see ps") from None
    if path.startswith("/.."):
        what = f"process {pid} is in a cgroup that can't be seen from here, {path}"
        raise Failure("no-cgroup", what, "run podrate in the host's cgroup namespace")
    if path.endswith(" (deleted)"):
        raise Failure("no-cgroup", f"the cgroup of process {pid} has been removed", "start anew, in one that is there")
    return mount_point() + path.rstrip("/")
