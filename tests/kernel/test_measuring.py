"""The benchmark's instruments, held against things that are known."""

import time

import pytest

from bench import beside, cost, iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from bench.meter import STEP, Meter
from bench.point import Point, observe


@pytest.mark.parametrize("rtt", [0, 0.002])
def test_the_meter_counts_bytes_on_the_wire(rtt: float) -> None:
    with Lab(rtt=rtt) as lab, Meter(lab.peer) as meter:
        begun = time.monotonic()
        transfer = iperf.run(lab, Traffic(seconds=1))
        arrived = meter.arrived()
        assert len(arrived) == pytest.approx((time.monotonic() - begun) / STEP, abs=3)
        # GSO packets, and yet each segment's headers are counted: 1448 bytes of payload are 1514 on the wire.
        payload = transfer.goodput / 8 * transfer.intervals[-1].end
        assert sum(arrived) == pytest.approx(payload * 1514 / 1448, rel=0.02)


def test_the_meter_counts_datagrams() -> None:
    with Lab() as lab, Meter(lab.peer) as meter:
        transfer = iperf.run(lab, Traffic(protocol="udp", rate=20e6, seconds=1))
        assert sum(meter.arrived()) == pytest.approx(transfer.sent * 1442, rel=0.01)


def test_a_probe_on_busy_cpus_measures_the_network() -> None:
    observed = observe(Point(rate=1_000_000_000, flows=4, seconds=1), "none")
    assert observed.measured.rr_p50_ms < 1
    assert len(observed.times) == pytest.approx(100, abs=20)


def test_a_test_run_is_shaped_as_a_packet() -> None:
    costs = cost.measure(rounds=1)
    assert [each.cpus for each in costs][:1] == [1]
    for each in costs:
        assert 0 < each.empty < each.egress
        assert each.empty < each.ingress


def test_two_cpus_at_once_never_pass_more_than_the_limit() -> None:
    for _ in range(5):
        passed = cost.most_passed(0.5)
        assert passed <= 1.01
        if passed > 0.99:
            return
    pytest.fail(f"others leave us no CPU to use the limit up: {passed}")


def test_a_flood_is_never_refused_and_leaves_tcp_its_share() -> None:
    measured = beside.measure(20_000_000, "podrate", seconds=1)
    assert measured.refused == 0
    assert measured.sent == pytest.approx(2 * 20e6 * 3 / 8 / 1400, rel=0.05)
    assert measured.tcp_ratio > 1 / 3
    assert measured.udp_ratio > 0.05


def test_the_meter_leaves_nothing() -> None:
    with Lab() as lab, Cgroup("test", "pod"):
        with Meter(lab.peer):
            pass
        assert not lab.peer.run(["sh", "-c", "tail -n +2 /proc/net/packet"])
