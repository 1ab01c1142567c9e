"""Giving back what a process that only waits does not need: what it can read again from its files.

docs/decisions/0007-what-a-sidecar-costs.md has what each brings.
"""

import ctypes

_MADV_DONTNEED = 4  # asm-generic/mman-common.h

_libc = ctypes.CDLL(None)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def give_back() -> None:
    """Drop this process's clean mappings of files.

    They stay in the page cache, for whoever maps them, as long as the machine has room; what runs again is mapped
    again, some microseconds a page.
    """
    starts, lengths = _clean()
    # Without a step of Python in between, and the interpreter's own code, which comes first in memory, last.
    list(map(_libc.madvise, starts, lengths, [_MADV_DONTNEED] * len(starts)))


def _clean() -> tuple[list[int], list[int]]:
    """Start and length of each mapping of a file that can't have been written to, and was not (relocations were).

    From the highest address downwards.
    """
    starts, lengths = [], []
    with open("/proc/self/smaps") as file:
        for line in file:
            first, *rest = line.split()
            if not first.endswith(":"):  # start-end permissions offset device inode [path]
                start, end = (int(address, 16) for address in first.split("-"))
                candidate = rest[0][1] == "-" and rest[3] != "0"
            elif first == "Anonymous:" and candidate and rest[0] == "0":
                starts.append(start)
                lengths.append(end - start)
    return starts[::-1], lengths[::-1]
