"""podrate attach, set and detach: the limit of a cgroup that runs on without us."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bandwidth.duration import format_duration
from bandwidth.limit import Limit
from bandwidth.policy import refuse_short
from bandwidth.rate import format_rate
from loader import bpf, pods, queue
from loader.adopt import Adopter
from loader.attached import Attached, find_attached
from loader.failure import Failure
from loader.say import say
from loader.shaper import Shaper, attached_ids

_LOCK = "/run/podrate.lock"


def attach(cgroup: str, limit: Limit) -> int:
    """Limit a cgroup, or replace its limit; 0. Raises Failure, and then nothing has changed."""
    with _alone():
        if _taken_by_sidecar(cgroup, limit):
            return 0
        with Shaper() as shaper, Adopter() as adopter:
            shaper.buckets.set(limit)
            with queue.changed_for(cgroup, limit.ingress if limit.ingress_queue else None):
                _attach(shaper, cgroup)
            adopted = adopter.adopt(cgroup, shaper)
    if adopted.mode == "fixed" and adopted.connections > 0 and limit.egress is not None:
        what = f"{adopted.connections} older TCP connection(s) are paced at {format_rate(adopted.pace * 8)}bit/s each"
        say(f"{what} until they close; a pace that adapts needs Linux 6.12 and root")
    return 0


def change(cgroup: str, asked: dict[str, int | None]) -> int:
    """Change the fields of a limit that is there (None: no limit in that direction, no burst); the others stay; 0.

    The counters go on, and so do the connections. Raises Failure("not-limited").
    """
    with _alone(), _found(cgroup) as attached:
        limit = Limit(**{**attached.buckets.limit().fields(), **asked})  # type: ignore[arg-type]
        if limit.burst and (rates := [rate for rate in (limit.egress, limit.ingress) if rate]):
            refuse_short("burst", format_duration(limit.burst), limit.burst, min(rates), example="--burst")
        queued = queue.measured(cgroup) is not None
        with queue.changed_for(cgroup, limit.ingress if queued else None):
            attached.buckets.set(limit)
        _say_for_how_long(attached)
    return 0


def detach(cgroup: str) -> int:
    """End a cgroup's limit; 0. Raises Failure("not-limited")."""
    with _alone(), _found(cgroup) as attached:
        attached.detach()
        queue.put_for(cgroup, None)
        with Adopter() as adopter:
            adopter.release(cgroup)
        if pod := _pod_of_sidecar(attached):
            remedy = "to lift the limit while it runs: podrate set --bandwidth none"
            say(f"the sidecar of pod {pod}, if it runs, attaches it again within half a minute; {remedy}")
    return 0


@contextmanager
def _alone() -> Iterator[None]:
    """No other of these commands meanwhile: both would attach, or one detach what the other has just replaced."""
    lock = None
    with suppress(OSError):  # /run is not there, or not ours to write
        lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _found(cgroup: str) -> Attached:
    attached = find_attached(cgroup)
    if attached is None:
        raise Failure("not-limited", f"{cgroup} has no limit of podrate's", "podrate status lists what has")
    return attached


def _taken_by_sidecar(cgroup: str, limit: Limit) -> bool:
    """Whether the cgroup has a sidecar's programs, and these have now the limit: without its own it would end."""
    old = find_attached(cgroup)
    if old is None:
        return False
    with old:
        if not old.exclusive:
            return False
        _refuse_unbound(cgroup)
        try:
            buckets = old.buckets
        except Failure:  # of another version: then its programs must be replaced
            return False
        with queue.changed_for(cgroup, limit.ingress if limit.ingress_queue else None):
            buckets.set(limit)
        _say_for_how_long(old)
    return True


def _attach(shaper: Shaper, cgroup: str) -> None:
    """Attach beside whatever else is there, above and below: each limit of a path from the root applies.

    Only what a pod's sidecar attached is exclusive, and is replaced as such: it has not the rights to know its own
    programs among others.
    """
    old = find_attached(cgroup)
    if old is None:
        shaper.attach(cgroup, bpf.ALLOW_MULTI)
        return
    with old:
        if old.exclusive:
            shaper.attach(cgroup, bpf.EXCLUSIVE)
        else:
            shaper.attach(cgroup, bpf.ALLOW_MULTI)  # for a moment both limits apply, rather than none
            old.detach()


def _refuse_unbound(cgroup: str) -> None:
    """An exclusive program is not run for a cgroup below that has programs of its own (compute_effective_progs)."""
    for directory, _, _ in os.walk(cgroup):
        if directory != cgroup and any(attached_ids(directory)):
            what = f"{directory} has BPF programs of its own, so that an exclusive limit on {cgroup} would not bind it"
            raise Failure("occupied", what, f"podrate detach {cgroup}, then attach again")


def _pod_of_sidecar(attached: Attached) -> str | None:
    """The pod, by name or UID, whose sidecar may have attached this; None if it was `podrate attach`."""
    uid = pods.uid_of(attached.cgroup) if attached.exclusive else None
    return uid and pods.names().get(uid, uid)


def _say_for_how_long(attached: Attached) -> None:
    if pod := _pod_of_sidecar(attached):
        say(f"until pod {pod}'s label is changed, or its sidecar starts again, which then sets the limit anew")
