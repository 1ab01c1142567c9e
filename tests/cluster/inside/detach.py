"""Anywhere, without a capability: take the exclusive programs off a cgroup. Prints what came of it, by hook."""

import ctypes
import json
import os
import struct
import sys

BPF = {"x86_64": 321, "aarch64": 280}  # the system call's number
PROG_DETACH, HOOKS = 9, {"ingress": 0, "egress": 1}  # linux/bpf.h

libc = ctypes.CDLL(None, use_errno=True)


def detached(cgroup: int, hook: int) -> str:
    attributes = struct.pack("IIII", cgroup, 0, hook, 0)
    failed = libc.syscall(BPF[os.uname().machine], PROG_DETACH, attributes, len(attributes)) < 0
    return os.strerror(ctypes.get_errno()) if failed else "it works"


opened = os.open(sys.argv[1], os.O_RDONLY)
print(json.dumps({name: detached(opened, hook) for name, hook in HOOKS.items()}))
