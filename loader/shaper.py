"""The shaper: its programs loaded, and attached to a cgroup. loader.attached finds them there."""

from __future__ import annotations

import os
from errno import ENODEV, ENOENT

from loader import bpf
from loader.bucket import Buckets
from loader.failure import Failure
from loader.lean import Resource
from loader.parts import EXCHANGE, available

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_BUILD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bpf", "build")
OBJECT = os.path.join(_BUILD, "shaper.bpf.o")
OBJECT_V2 = os.path.join(_BUILD, "shaper-v2.bpf.o")  # without compare-and-exchange

# The programs and the hooks that they go to. Sockets are paced first, so that none is opened unpaced.
HOOKS = {
    "podrate_sockops": bpf.CGROUP_SOCK_OPS,
    "podrate_egress": bpf.CGROUP_INET_EGRESS,
    "podrate_ingress": bpf.CGROUP_INET_INGRESS,
}

# What loading and attaching need (linux/capability.h), and what the sidecar is given.
CAPABILITIES = {"CAP_BPF": 39, "CAP_NET_ADMIN": 12}


class Shaper(Resource):
    """A loaded shaper, to be attached to one cgroup.

    without: parts (loader.parts) that it shall do without, as on a kernel that does not have them.
    """

    def __init__(self, without: int = 0) -> None:
        parts = available() & ~without
        try:
            self._object = bpf.ObjectSpec(OBJECT if parts & EXCHANGE else OBJECT_V2).load()
        except bpf.BpfError as error:
            raise _refused(error) from error
        self.buckets = Buckets(*[self._object.map(name) for name in Buckets.MAPS])
        self.buckets.want(parts)
        self.programs = tuple(self._object.program(name) for name in HOOKS)

    @property
    def program_ids(self) -> tuple[int, ...]:
        """The kernel's ids of the programs, in the order of HOOKS."""
        return tuple(program.id for program in self.programs)

    def attach(self, cgroup: str, flags: int, ours: frozenset[int] = frozenset()) -> None:
        """Attach every program to a cgroup, replacing what is there without a gap if it is ours. All or none.

        flags: bpf.EXCLUSIVE, or bpf.ALLOW_MULTI below a cgroup that may have programs of its own.
        ours:  ids of our earlier programs, where the caller can't look (that needs CAP_SYS_ADMIN).
        Raises Failure("occupied") rather than replace a program of somebody else's.
        """
        with OpenCgroup(cgroup) as fd:
            there = {hook: bpf.attachments(fd, hook) for hook in HOOKS.values()}
            for name, hook in HOOKS.items():
                if bpf.EXCLUSIVE in (flags, there[hook].flags):
                    for program_id in set(there[hook].programs) - ours:
                        _refuse_another(program_id, name, cgroup)
            attached = []
            try:
                for program, hook in zip(self.programs, HOOKS.values(), strict=True):
                    bpf.attach(program, fd, hook, flags)
                    attached.append((program, hook))
            except bpf.BpfError:
                for program, hook in attached:
                    if (
                        flags != bpf.EXCLUSIVE or not there[hook].programs
                    ):  # else its limit is better than the old program's, and that one is gone
                        bpf.detach(program, fd, hook)
                raise

    def close(self) -> None:
        """Close our descriptors. An attached shaper keeps limiting."""
        self._object.close()


def attached_ids(cgroup: str) -> tuple[tuple[int, ...], ...]:
    """The ids of the programs on each of a cgroup's HOOKS, anybody's. Needs CAP_NET_ADMIN."""
    with OpenCgroup(cgroup) as fd:
        return tuple(bpf.attachments(fd, hook).programs for hook in HOOKS.values())


def _refuse_another(program_id: int, name: str, cgroup: str) -> None:
    """Raise Failure("occupied") unless this program, attached where `name` should go, is one of ours."""
    try:
        program = bpf.Program.by_id(program_id)
    except bpf.BpfError:  # no CAP_SYS_ADMIN: then, as far as we know, it is not ours
        what = f"program {program_id}"
    else:
        program.close()
        if program.name == name:
            return
        what = f"program {program_id}, {program.name}"
    hook = name.removeprefix("podrate_")
    remedy = "see `bpftool cgroup show`, and stop what attached it"
    raise Failure("occupied", f"{cgroup} has another exclusive BPF program on its {hook} hook: {what}", remedy)


class OpenCgroup:
    """A cgroup's directory, opened; what the kernel refuses while it is open becomes a Failure that names it."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            remedy = "name a directory of the cgroup2 mount"
            raise Failure("no-cgroup", f"{path}: {error.strerror}", remedy) from None

    def __enter__(self) -> int:
        return self._fd

    def _is_there(self) -> bool:
        """Whether its path still leads to it, and not to one that was made anew in its place."""
        try:
            return os.stat(self._path).st_ino == os.fstat(self._fd).st_ino
        except OSError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, bpf.BpfError):
                if error.errno in (ENOENT, ENODEV) and not self._is_there():
                    what = f"{self._path} has been removed"
                    raise Failure("no-cgroup", what, "name a directory of the cgroup2 mount") from None
                raise _refused(error, self._path) from error
        finally:
            os.close(self._fd)


def _refused(error: bpf.BpfError, cgroup: str = "") -> Failure:
    from loader import preflight  # most are never refused

    return preflight.explain(error, cgroup)
