"""podrate doctor: what works on this machine and what does not, each in a line, with the remedy."""

import json
from collections.abc import Iterator
from typing import NamedTuple

from loader.failure import Failure
from loader.say import printable


class Finding(NamedTuple):
    """One thing that was looked for.

    works:    what is true if it is there, for a person
    needed:   whether there is no limit without it; else there is one, with less
    failure:  None if it is there
    """

    works: str
    needed: bool
    failure: Failure | None

    @property
    def log(self) -> str:
        """All that the verifier said, where it refused a program; else "". Many lines: up to 16 MB."""
        return getattr(self.failure and self.failure.__cause__, "log", "")

    @property
    def mark(self) -> str:
        """ok; FAIL; or less, where podrate works without it."""
        if self.failure is None:
            return "ok"
        return "FAIL" if self.needed else "less"


def doctor(*, as_json: bool, with_log: bool) -> int:
    """Look at everything and print it; 0, or the exit code of the first thing that is needed and not there."""
    found = list(_findings())
    if as_json:
        print(json.dumps([{**_fields(each), **({"log": each.log} if with_log else {})} for each in found], indent=2))
    else:
        for each in found:
            print(printable(f"{each.mark:<5}{each.works}" if each.failure is None else f"{each.mark:<5}{each.failure}"))
            for line in each.log.splitlines() if with_log else ():
                print(printable(f"     {line}"))
    return next((each.failure.exit_code for each in found if each.failure and each.needed), 0)


def _findings() -> Iterator[Finding]:
    try:
        from loader import bpf, preflight
    except Failure as failure:  # without libbpf nothing else can be asked
        yield Finding("libbpf is there", True, failure)
        return
    yield Finding(f"libbpf {bpf.libbpf_version()} is loaded", True, None)
    broken = False
    for check in preflight.CHECKS:
        found = check.failure()
        broken = broken or found is not None
        yield Finding(check.works, True, found)
    if broken:  # what stands on all of that would fail too, and say nothing of its own
        return
    yield Finding("buckets are charged by compare-and-exchange", False, _exchange())
    yield Finding("connections that are older than their limit share it", False, _adoption())
    yield Finding("commands find limits that others attached", False, _capabilities())
    yield Finding("an ingress queue can be made (--ingress-queue)", False, _queue())


def _exchange() -> Failure | None:
    from loader.parts import EXCHANGE, PARTS, available

    if available() & EXCHANGE:
        return None
    return Failure("old-kernel", PARTS[EXCHANGE][1], "none is needed: the limit holds; Linux 5.12 does it with less")


def _adoption() -> Failure | None:
    from loader import bpf
    from loader.adopt import LIVE, OBJECT
    from loader.preflight import release

    failure = Failure("old-kernel", "older connections get a fixed pace until they close", "use Linux 6.12, as root")
    try:
        bpf.ObjectSpec(OBJECT).load().close()
    except bpf.BpfError as error:
        failure.what += f": {error}"
        failure.__cause__ = error
        return failure
    return failure if release() < LIVE else None  # to try it would take a connection to another namespace


def _capabilities() -> Failure | None:
    """CAP_SYS_ADMIN opens programs by their ids (bpf(2), BPF_PROG_GET_FD_BY_ID)."""
    from loader.preflight import CAP_SYS_ADMIN, effective_capabilities

    if effective_capabilities() >> CAP_SYS_ADMIN & 1:
        return None
    what = "this process lacks CAP_SYS_ADMIN, so that status, top, set and detach find nothing"
    return Failure("permission", what, "run as root")


def _queue() -> Failure | None:
    """Made for real, in a network namespace that ends with this process."""
    from loader.namespace import enter_new

    try:
        enter_new()
    except OSError as error:
        return Failure("queue", f"no network namespace can be made to try it in: {error.strerror}", "run as root")
    try:
        from loader.ifb import Ifb

        with Ifb("podrate-doctor", ["lo"]) as ifb:  # what a new namespace has
            ifb.put(10_000_000)
    except Failure as failure:
        return failure
    return None


def _fields(finding: Finding) -> dict[str, object]:
    failure = finding.failure
    return {
        "check": finding.works,
        "needed": finding.needed,
        "ok": failure is None,
        "reason": failure and failure.reason,
        "what": failure and failure.what,
        "remedy": failure and failure.remedy,
    }
