"""The committed objects and the real loader on Debian's kernels, from the oldest that is supported to the newest.

Each kernel boots in an emulated machine (qemu.py) and pushes packets through a limit of 5 Mbit/s. What matters here is
that each part of the shaper is there, or its fallback, and that `podrate status` says which.
"""

import re

import pytest

from loader.failure import EXIT_CODES
from loader.parts import ALL, EXCHANGE
from tests.kernels import table
from tests.kernels.archive import SUITES
from tests.kernels.qemu import Observed
from tests.table import without_figures

pytestmark = pytest.mark.parametrize("name", SUITES, scope="session")

LOW, HIGH = 0.85, 1.1  # of the limit

# What each kernel lacks, of loader.parts: known before anything is loaded, or found out in use.
LACKS = {"5.10": {"exchange": "off", "window": "refused"}}
# The connections that are older than a limit: paced as any other from 6.12 on.
LIVE = {"6.12", "newest"}


def test_the_kernel_is_the_one_that_was_asked_for(guest: Observed, name: str) -> None:
    release = guest.look("boot")["release"]
    if name == "newest":
        assert tuple(map(int, release.split(".")[:2])) > (6, 12)
    else:
        assert release.startswith(f"{name}.")


def test_the_object_is_chosen_by_what_the_kernel_has(guest: Observed, name: str) -> None:
    figures = guest.look("command")
    assert (figures["code"], figures["out"], figures["error"]) == (0, "", "")
    assert figures["available"] == (ALL & ~EXCHANGE if "exchange" in LACKS.get(name, {}) else ALL)


@pytest.mark.parametrize("direction", ["tcp_egress", "ipv6", "run"])
def test_what_is_sent_over_tcp_is_paced(guest: Observed, direction: str) -> None:
    """On every kernel: nothing is dropped. `run` from a command's first packet on."""
    figures = guest.look(direction)
    assert LOW < figures["ratio"] < HIGH
    assert figures["retransmits"] == 0


@pytest.mark.parametrize("direction", ["tcp_ingress", "udp_egress", "udp_ingress"])
def test_what_can_not_be_paced_keeps_the_limit(guest: Observed, direction: str) -> None:
    figures = guest.look(direction)
    assert LOW < figures["ratio"] < HIGH
    if direction.startswith("udp"):
        assert 0.4 < figures["lost"] < 0.6  # it is sent at twice the limit


def test_status_names_the_active_parts(guest: Observed, name: str) -> None:
    figures = guest.look("tcp_ingress")
    parts = figures["status"]["parts"]
    assert parts == dict.fromkeys(parts, "active") | LACKS.get(name, {})
    told = dict(re.findall("^  (exchange|pacing|rtt|window) (off|refused): ", figures["text"], re.MULTILINE))
    assert told == LACKS.get(name, {})


def test_a_limit_changes_under_traffic(guest: Observed) -> None:
    """By `attach`, with other programs, and by `set`, with the same."""
    figures = guest.look("live_change")
    first, second, third = figures["ids"]
    assert all(one and other and one != other for one, other in zip(first, second, strict=True))
    assert third == second
    for phase in ("slow", "replaced", "set"):
        assert LOW < figures[phase] < HIGH, phase


def test_older_connections_are_adopted_and_released(guest: Observed, name: str) -> None:
    figures = guest.look("older_connection")
    assert figures["code"] == 0
    assert ("a pace that adapts needs Linux" in figures["error"]) == (name not in LIVE)
    assert (figures["connections"] > 0) == (name in LIVE)
    assert LOW < figures["ratio"] < HIGH
    assert figures["free"] > 2
    assert figures["released"] > 2
    assert figures["ids"] == [[], [], []]
    assert figures["status"].startswith("no limit on ")


def test_somebody_elses_exclusive_program_is_left_alone(guest: Observed) -> None:
    figures = guest.look("another_program")
    assert figures["code"] == EXIT_CODES["occupied"]
    assert "other" in figures["error"]
    assert figures["programs"] == 1


def test_what_arrives_waits_in_a_queue(guest: Observed) -> None:
    figures = guest.look("ingress_queue")
    assert (figures["code"], figures["error"]) == (0, "")
    assert LOW < figures["ratio"] < HIGH
    assert figures["retransmits"] <= 2
    assert "  queue   5Mbit/s " in figures["status"]
    assert "podrate-in" not in figures["links"]


def test_the_injected_sidecar_limits_follows_and_is_replaced(guest: Observed) -> None:
    """With CAP_BPF and CAP_NET_ADMIN only: before Linux 6.17 the verifier then takes much less."""
    figures = guest.look("sidecar")
    assert LOW < figures["ratio"] < HIGH
    assert figures["retransmits"] == 0
    assert LOW < figures["changed"] < HIGH
    first, left, second = figures["ids"]
    assert left == first, "what it attached stays when it is killed"
    assert all(len(one) == len(other) == 1 and one != other for one, other in zip(first, second, strict=True))


def test_doctor_says_what_the_kernel_does_without(guest: Observed, name: str) -> None:
    figures = guest.look("doctor")
    assert (figures["code"], figures["error"]) == (0, "")
    less = [line for line in figures["out"].splitlines() if not line.startswith("ok   ")]
    told = [line.removeprefix("less old-kernel: ").partition(" ")[0] for line in less]
    assert told == ["buckets"] * (name == "5.10") + ["older"] * (name not in LIVE), figures["out"]


def test_memory_that_may_not_be_locked(guest: Observed, name: str) -> None:
    """It counts before Linux 5.11, and then podrate says so (loader.preflight)."""
    figures = guest.look("memory_lock")
    code, examined = figures["doctor"]
    if name == "5.10":
        assert figures["code"] == code == EXIT_CODES["memlock"]
        assert "RLIMIT_MEMLOCK is 0 bytes" in figures["error"]
        assert re.search("^FAIL memlock: RLIMIT_MEMLOCK is 0 bytes.* Remedy: ", examined, re.MULTILINE)
    else:
        assert (figures["code"], figures["error"], code) == (0, "", 0)
        assert "ok   BPF's memory is not limited by RLIMIT_MEMLOCK\n" in examined


def test_a_kernel_that_is_locked_down_limits_as_ever(guest: Observed) -> None:
    figures = guest.look("locked_down")
    assert "[confidentiality]" in figures["mode"]
    assert (figures["code"], figures["error"]) == (0, "")
    assert LOW < figures["ratio"] < HIGH


def test_the_document_says_what_was_observed(guest: Observed, name: str, request: pytest.FixtureRequest) -> None:
    """All but the measured figures, which differ by the run; `make test-kernels` writes it anew."""
    observed = table.row(name, SUITES[name], guest)
    table.OBSERVED[name] = observed
    if request.config.getoption("--write-table"):
        table.TABLE.write(name, observed)
    assert without_figures(table.TABLE.documented(name)) == without_figures(observed)
