"""BPF objects, maps, programs and cgroup attachments: a small typed API in the manner of cilium/ebpf.

`ObjectSpec` is an ELF that was read; `Object` is what the kernel holds. Whatever holds a kernel resource is a
context manager. Errors carry errno.
"""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import byref, c_uint32
from errno import EINVAL

from loader.lean import NamedTuple, Resource
from loader.libbpf import MapInfo, OpenOptions, ProgramInfo, TestRunOptions, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

# enum bpf_attach_type and attach flags of linux/bpf.h
CGROUP_INET_INGRESS = 0
CGROUP_INET_EGRESS = 1
CGROUP_SOCK_OPS = 3
_TRACE_ITER = 28
_CGROUP_SKB = 8  # enum bpf_prog_type
EXCLUSIVE = 0  # flags 0: no other program here, none below
ALLOW_MULTI = 2

_LOG_SIZE = (16 << 20) - 1  # bytes: the most that every kernel takes (UINT_MAX >> 8, kernel/bpf/verifier.c)


class BpfError(OSError):
    """The kernel or libbpf refused: `errno`, and `operation`, what was asked."""

    def __init__(self, errno: int, operation: str) -> None:
        super().__init__(errno, os.strerror(errno))
        self.operation = operation

    def __str__(self) -> str:
        return f"{self.operation}: {self.strerror}"


class VerifierError(BpfError):
    """The verifier rejected a program: `summary` is the log's telling line, `log` the whole of it."""

    def __init__(self, errno: int, operation: str, log: str) -> None:
        super().__init__(errno, operation)
        self.log = log
        lines = [line for line in log.splitlines() if line and not line.startswith(("processed ", "-- "))]
        self.summary = lines[-1] if lines else self.strerror or ""

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.summary}"


def _check(result: int, operation: str) -> int:
    if result < 0:
        raise BpfError(-result, operation)
    return result


def libbpf_version() -> str:
    """The version of the library in use, for example "1.1"."""
    return f"{lib.libbpf_major_version()}.{lib.libbpf_minor_version()}"


class _Descriptor(Resource):
    """A file descriptor, `fd`; closed only if it is ours, and not a loaded object's."""

    def __init__(self, fd: int, owned: bool) -> None:
        self.fd = fd
        self._owned = owned

    def close(self) -> None:
        if self._owned:
            os.close(self.fd)
            self._owned = False


class Map(_Descriptor):
    """An array or per-CPU array map, by file descriptor. Keys are indices, values are bytes."""

    def __init__(self, fd: int, owned: bool = False) -> None:
        super().__init__(fd, owned)
        info = MapInfo()
        _object_info(fd, info)
        self.id: int = info.id
        self.name: str = info.name.decode()
        self.value_size: int = info.value_size
        per_cpu = info.type == 6  # BPF_MAP_TYPE_PERCPU_ARRAY: each CPU's value starts at a multiple of 8
        cpus = _check(lib.libbpf_num_possible_cpus(), "count the CPUs (/sys)") if per_cpu else 1
        self._size = -(-self.value_size // 8) * 8 * cpus if per_cpu else self.value_size

    def __getitem__(self, index: int) -> bytes:
        """The value at `index`; of a per-CPU map, the values of all CPUs one after the other."""
        value = ctypes.create_string_buffer(self._size)
        _check(lib.bpf_map_lookup_elem(self.fd, byref(c_uint32(index)), value), f"read map {self.name}[{index}]")
        return value.raw

    def __setitem__(self, index: int, value: bytes) -> None:
        if len(value) != self._size:
            raise ValueError(f"map {self.name} takes {self._size} bytes, not {len(value)}")
        _check(lib.bpf_map_update_elem(self.fd, byref(c_uint32(index)), value, 0), f"write map {self.name}[{index}]")


class Program(_Descriptor):
    """A loaded program, by file descriptor."""

    def __init__(self, fd: int, owned: bool = False) -> None:
        super().__init__(fd, owned)
        info = ProgramInfo()
        _object_info(fd, info)
        self.id: int = info.id
        self.name: str = info.name.decode()
        self._map_count: int = info.nr_map_ids

    @classmethod
    def by_id(cls, program_id: int) -> Self:
        """The program with this id. Needs CAP_SYS_ADMIN."""
        return cls(_check(lib.bpf_prog_get_fd_by_id(program_id), f"open BPF program {program_id}"), owned=True)

    def test_run(self, frame: bytes, ifindex: int, repeat: int) -> tuple[int, int]:
        """Run a cgroup_skb program on an Ethernet frame, here and now: its verdict, and nanoseconds a run (the mean).

        ifindex: the device that the frame pretends to pass, one of this thread's network namespace (Linux 5.6).
        The program really runs: clocks move and counters count.
        """
        context = struct.pack("=40xI", ifindex)  # struct __sk_buff up to there
        options = TestRunOptions(
            sz=ctypes.sizeof(TestRunOptions),
            data_in=frame,
            data_size_in=len(frame),
            ctx_in=context,
            ctx_size_in=len(context),
            repeat=repeat,
        )
        _check(lib.bpf_prog_test_run_opts(self.fd, byref(options)), f"test run of {self.name}")
        return int(options.retval), int(options.duration)

    def maps(self) -> dict[str, Map]:
        """The maps that this program uses, by name, each to be closed. Needs CAP_SYS_ADMIN."""
        ids = (c_uint32 * self._map_count)()
        info = ProgramInfo(nr_map_ids=self._map_count, map_ids=ctypes.addressof(ids))
        _object_info(self.fd, info)
        found = (Map(_check(lib.bpf_map_get_fd_by_id(i), f"open BPF map {i}"), owned=True) for i in ids)
        return {each.name: each for each in found}


def _object_info(fd: int, info: ctypes.Structure) -> None:
    size = c_uint32(ctypes.sizeof(info))
    _check(lib.bpf_obj_get_info_by_fd(fd, byref(info), byref(size)), "read a BPF object's info")


class Object(Resource):
    """What the kernel holds of an object: maps and programs live while it is open or something refers to them."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def map(self, name: str) -> Map:
        """The map of this name; KeyError if the object has none."""
        fd = lib.bpf_object__find_map_fd_by_name(self._handle, name.encode())
        if fd < 0:
            raise KeyError(name)
        return Map(fd)

    def program(self, name: str) -> Program:
        """The program of this name; KeyError if the object has none."""
        pointer = lib.bpf_object__find_program_by_name(self._handle, name.encode())
        if not pointer:
            raise KeyError(name)
        return Program(lib.bpf_program__fd(pointer))

    def close(self) -> None:
        """Close every descriptor. What is attached stays attached."""
        if self._handle is not None:
            lib.bpf_object__close(self._handle)
            self._handle = None


class ObjectSpec:
    """A BPF ELF file on disk, to be loaded: what it makes of the kernel is an Object."""

    def __init__(self, path: str) -> None:
        self.path = path

    def load(self) -> Object:
        """Load maps and programs into the kernel. Raises VerifierError with the whole log, or BpfError."""
        handle, errno = self._load(OpenOptions(sz=ctypes.sizeof(OpenOptions)))
        if handle is not None:
            return Object(handle)
        # Only now is a log worth its memory: do it once more, with one.
        buffer = ctypes.create_string_buffer(_LOG_SIZE)
        options = OpenOptions(
            sz=ctypes.sizeof(OpenOptions), kernel_log_buf=ctypes.addressof(buffer), kernel_log_size=_LOG_SIZE
        )
        handle, _ = self._load(options)  # the first errno is the refusal's; a log that is full has one of its own
        if handle is not None:
            return Object(handle)
        operation = f"load {self.path}"
        log = buffer.value.decode(errors="replace")
        raise VerifierError(errno, operation, log) if log else BpfError(errno, operation)

    def _load(self, options: OpenOptions) -> tuple[int | None, int]:
        handle = lib.bpf_object__open_file(os.fsencode(self.path), byref(options))
        if not handle:
            raise BpfError(ctypes.get_errno(), f"open {self.path}")
        if (result := lib.bpf_object__load(handle)) < 0:
            lib.bpf_object__close(handle)
            return None, -result
        return handle, 0


# r1 = 0; *(u64 *)(r10 - 8) = r1; r0 = 0; lock r0 = cmpxchg_64(r10 - 8, r0, r1); r0 = 0; exit
_COMPARE_AND_EXCHANGE = b"".join(
    struct.pack("=BBhi", code, registers, offset, immediate)
    for code, registers, offset, immediate in (
        (0xB7, 0x01, 0, 0),
        (0x7B, 0x1A, -8, 0),
        (0xB7, 0x00, 0, 0),
        (0xDB, 0x1A, -8, 0xF1),
        (0xB7, 0x00, 0, 0),
        (0x95, 0x00, 0, 0),
    )
)


def has_compare_and_exchange() -> bool:
    """Whether this kernel's BPF has it (5.12), found out by loading a program of six instructions.

    True also when the load fails for another reason than the instruction: then loading the real thing will say it.
    """
    count = len(_COMPARE_AND_EXCHANGE) // 8
    fd = lib.bpf_prog_load(_CGROUP_SKB, b"podrate_probe", b"GPL", _COMPARE_AND_EXCHANGE, count, None)
    if fd >= 0:
        os.close(fd)
    return bool(fd != -EINVAL)


class Attachments(NamedTuple):
    """The programs attached to one hook of one cgroup itself (not those it inherits)."""

    flags: int  # EXCLUSIVE or ALLOW_MULTI
    programs: tuple[int, ...]  # ids, in the order in which they run


def attach(program: Program, cgroup_fd: int, attach_type: int, flags: int) -> None:
    """Attach to a cgroup; with flags EXCLUSIVE an exclusive program that is already there is replaced atomically.

    The attachment belongs to the cgroup: it stays when this process ends and goes when the cgroup is removed.
    Raises BpfError with EPERM where a parent has an exclusive program, or programs here were attached otherwise.
    """
    _check(lib.bpf_prog_attach(program.fd, cgroup_fd, attach_type, flags), f"attach {program.name}")


def detach(program: Program, cgroup_fd: int, attach_type: int) -> None:
    """Detach `program` from a cgroup."""
    _check(lib.bpf_prog_detach2(program.fd, cgroup_fd, attach_type), f"detach {program.name}")


def attachments(cgroup_fd: int, attach_type: int) -> Attachments:
    """What is attached to a cgroup itself. Needs CAP_NET_ADMIN."""
    room = 64  # BPF_CGROUP_MAX_PROGS of kernel/bpf/cgroup.c
    flags, count, ids = c_uint32(), c_uint32(room), (c_uint32 * room)()
    result = lib.bpf_prog_query(cgroup_fd, attach_type, 0, byref(flags), ids, byref(count))
    _check(result, "query a cgroup's BPF programs")
    return Attachments(flags.value, tuple(ids[: count.value]))


def iterate(program: Program) -> None:
    """Run an iterator program over all its objects; for sockets, those of this thread's network namespace (5.9)."""
    link = _check(lib.bpf_link_create(program.fd, 0, _TRACE_ITER, None), f"attach {program.name}")
    try:
        fd = _check(lib.bpf_iter_create(link), f"run {program.name}")
    finally:
        os.close(link)
    try:
        while True:
            try:
                if not os.read(fd, 4096):  # what a program has to print; ours print nothing
                    return
            except BlockingIOError:
                continue  # after a million objects the kernel lets others run: kernel/bpf/bpf_iter.c, bpf_seq_read
    finally:
        os.close(fd)
