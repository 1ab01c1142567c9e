"""Shapers that are attached to cgroups, whoever attached them; and what else is there. Needs CAP_SYS_ADMIN."""

from errno import ENOENT
from typing import NamedTuple

from loader import bpf
from loader.bucket import Buckets
from loader.failure import Failure
from loader.lean import Resource
from loader.shaper import HOOKS, OpenCgroup


class Attached(Resource):
    """Our programs as found on a cgroup, of this version or of another.

    exclusive:  attached so that no other program can stand beside them, and none below (bpf.EXCLUSIVE)
    """

    def __init__(self, cgroup: str, exclusive: bool, programs: tuple[bpf.Program, ...]) -> None:
        self.cgroup = cgroup
        self.exclusive = exclusive
        self.programs = programs
        self._buckets: Buckets | None = None

    @property
    def buckets(self) -> Buckets:
        """The limit and the counters. Raises Failure("version") where another version's maps are not as ours."""
        if self._buckets is None:
            self._buckets = _buckets_of(self.programs, self.cgroup)
        return self._buckets

    def detach(self) -> None:
        """Detach every program."""
        with OpenCgroup(self.cgroup) as fd:
            for program in self.programs:
                bpf.detach(program, fd, HOOKS[program.name])

    def close(self) -> None:
        """Close the descriptors. What is attached stays so."""
        for program in self.programs:
            program.close()
        if self._buckets is not None:
            self._buckets.close()


class Other(NamedTuple):
    """Somebody else's program on a hook that ours use."""

    hook: str  # egress, ingress or sockops
    id: int
    name: str  # as its author called it, up to 15 characters
    exclusive: bool


def find_attached(cgroup: str) -> Attached | None:
    """Our shaper on a cgroup, or None. To be closed."""
    with OpenCgroup(cgroup) as fd:
        there = _attachments(fd)
        while True:
            exclusive, programs = True, []
            for name, (flags, ids) in zip(HOOKS, there, strict=True):
                for program in _open(ids):
                    if program.name == name:
                        programs.append(program)
                        exclusive = exclusive and flags == bpf.EXCLUSIVE
                    else:
                        program.close()
            now = _attachments(fd)
            if now == there:
                return Attached(cgroup, exclusive, tuple(programs)) if programs else None
            for program in programs:  # some of them were replaced while we looked
                program.close()
            there = now


def _attachments(cgroup_fd: int) -> list[bpf.Attachments]:
    """What is on each of the HOOKS, in their order."""
    return [bpf.attachments(cgroup_fd, hook) for hook in HOOKS.values()]


def others(cgroup: str) -> list[Other]:
    """Whoever else is attached to the hooks of a cgroup itself."""
    found = []
    with OpenCgroup(cgroup) as fd:
        for name, hook in HOOKS.items():
            flags, ids = bpf.attachments(fd, hook)
            for program in _open(ids):
                if program.name != name:
                    where = name.removeprefix("podrate_")
                    found.append(Other(where, program.id, program.name, flags == bpf.EXCLUSIVE))
                program.close()
    return found


def _open(ids: tuple[int, ...]) -> list[bpf.Program]:
    programs = []
    for each in ids:
        try:
            programs.append(bpf.Program.by_id(each))
        except bpf.BpfError as error:
            if error.errno != ENOENT:  # else it was detached while we looked
                raise
    return programs


def _buckets_of(programs: tuple[bpf.Program, ...], cgroup: str) -> Buckets:
    found: dict[str, bpf.Map] = {}
    for program in programs:
        for name, each in program.maps().items():
            if name in found or Buckets.MAPS.get(name) != each.value_size:
                each.close()
            else:
                found[name] = each
    if len(found) < len(Buckets.MAPS):
        for each in found.values():
            each.close()
        remedy = "use that version, or attach anew with this one"
        raise Failure("version", f"{cgroup} is limited by another version of podrate", remedy)
    return Buckets(**found)
