"""In a container like the loader's, with the UID of another pod: what a shell there can, and what not."""

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable

sys.path.insert(0, "/usr/lib/podrate")
from loader import bpf
from loader.cgroup import find_pod, mount_point
from loader.shaper import HOOKS, attached_ids

libc, libbpf = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libbpf.so.1", use_errno=True)
MOUNT_NAMESPACE = 0x20000  # CLONE_NEWNS
KPROBE = 2  # BPF_PROG_TYPE_KPROBE
NOTHING = bytes([0xB7] + [0] * 7 + [0x95] + [0] * 7)  # r0 = 0; exit


def tried(what: Callable[..., object], *arguments: object) -> str:
    try:
        what(*arguments)
    except OSError as error:
        return str(error.strerror)
    return "it works"


def called(function: Callable[..., int], *arguments: object) -> None:
    """A function of C's that says by a negative number that it failed, and by errno why."""
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(other: str) -> None:
    root = mount_point("/run/podrate/cgroup")
    # It sees the whole node's cgroups, and which programs they have.
    cgroup = find_pod(root, other)
    (program, *_), *_ = attached_ids(cgroup)
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file)
    said: dict[str, object] = {key: status[key] for key in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")}
    said |= {
        "make a cgroup": tried(os.mkdir, f"{root}/podrate-was-here"),
        "move a process": tried(open, f"{cgroup}/cgroup.procs", "w"),
        "mount": tried(called, libc.mount, b"none", b"/mnt", b"tmpfs", 0, None),
        "enter a namespace": tried(called, libc.unshare, MOUNT_NAMESPACE),
        "open a program": tried(bpf.Program.by_id, program),
        "trace the kernel": tried(called, libbpf.bpf_prog_load, KPROBE, b"x", b"GPL", NOTHING, 2, None),
        "open a packet socket": tried(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
        "be another user": tried(os.setuid, 1),
    }
    descriptor = os.open(cgroup, os.O_RDONLY)
    said["detach"] = [libbpf.bpf_prog_detach(descriptor, hook) for hook in HOOKS.values()]
    print(json.dumps(said))


main(*sys.argv[1:])
