"""Start a command under a seccomp filter that answers bpf(2) with an error number: with_seccomp.py ERRNO COMMAND..."""

import ctypes
import errno
import os
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]  # __NR_bpf
_ERRNO, _ALLOW = 0x00050000, 0x7FFF0000  # SECCOMP_RET_*


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


answer = _ERRNO | getattr(errno, sys.argv[1])
# ld [0] (the call's number); jeq bpf, 0, 1; ret errno; ret allow
instructions = ((0x20, 0, 0, 0), (0x15, 0, 1, _BPF), (0x06, 0, 0, answer), (0x06, 0, 0, _ALLOW))
code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
program = _Program(len(instructions), code)
assert libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
