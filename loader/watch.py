"""The limited cgroups of this machine, found anew at each look and kept open in between. Needs CAP_SYS_ADMIN."""

import os
import resource
from collections.abc import Callable, Iterator
from typing import NamedTuple

from loader import pods
from loader.attached import Attached, find_attached
from loader.cgroup import mount_point
from loader.failure import Failure
from loader.lean import Resource
from loader.meter import Flow, Meter
from loader.say import say
from loader.shaper import attached_ids


class Seen(NamedTuple):
    """One limited cgroup at one look."""

    attached: Attached  # closed by the Watch
    name: str | None  # NAMESPACE/NAME, of a pod that has one here
    flows: tuple[Flow, ...]  # by direction, since the look before


class _Known(NamedTuple):
    ids: tuple[tuple[int, ...], ...]
    attached: Attached
    meter: Meter


class Watch(Resource):
    """Look as often as you like; the first look has no flows worth reading.

    cgroup:  only this one and those above it, whose limits apply to it too; else every one of this machine
    report:  is told in a line of a shaper that can't be read, once
    """

    def __init__(self, cgroup: str | None = None, *, report: Callable[[str], None] = say) -> None:
        _allow_many_files()  # seven for each limited cgroup
        self._cgroup = cgroup
        self._report = report
        self._mount = mount_point()
        self._known: dict[str, _Known] = {}
        self._unreadable: set[str] = set()

    def look(self) -> list[Seen]:
        """The limited cgroups, each parent before its children; with a cgroup, that first and then upwards."""
        seen, names = [], pods.names()
        for directory in self._directories():
            try:
                known = self._open(directory)
            except Failure as failure:
                if failure.reason == "no-cgroup" and directory != self._cgroup:
                    continue  # removed while we looked
                if failure.reason != "version" or directory == self._cgroup:
                    raise
                if directory not in self._unreadable:  # no reason to say nothing of the others
                    self._unreadable.add(directory)
                    self._report(str(failure))
                continue
            if known:
                title = pods.title(directory, names)
                seen.append(Seen(known.attached, None if title == directory else title, known.meter.flows()))
        for gone in self._known.keys() - {each.attached.cgroup for each in seen}:
            self._known.pop(gone).attached.close()
        return seen

    def _directories(self) -> Iterator[str]:
        if self._cgroup is None:
            for directory, below, _ in os.walk(self._mount):
                below.sort()
                yield directory
            return
        directory = self._cgroup
        while directory.startswith(self._mount):
            yield directory
            directory = os.path.dirname(directory)

    def _open(self, directory: str) -> _Known | None:
        ids = attached_ids(directory)
        known = self._known.get(directory)
        if known:
            if known.ids == ids:
                return known
            self._known.pop(directory).attached.close()  # attached anew
        attached = find_attached(directory) if any(ids) else None
        if attached is None:
            return None
        try:
            known = _Known(ids, attached, Meter(attached.buckets))
        except BaseException:
            attached.close()
            raise
        self._known[directory] = known
        return known

    def close(self) -> None:
        """Close what is open of them. The limits stay."""
        for each in self._known.values():
            each.attached.close()


def _allow_many_files() -> None:
    """As many open files as this process may have, not as few as select(2) once could take, which nobody uses here."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
