"""The laboratory that the other kernel tests and the benchmark stand on: it moves packets, and leaves nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import iperf, probe
from bench.cgroup import Cgroup, cgroup2_mount
from bench.command import LabError
from bench.iperf import Direction, Traffic
from bench.lab import Lab, Namespace

ROOT = Path(__file__).parents[2]


def leftovers(pid: int) -> list[str]:
    """What a lab or cgroup of process `pid` has left in the machine."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    # And devices whose other end is in one.
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
    cgroups = [path.name for path in cgroup2_mount().glob(f"podrate-*-{pid}-*")]
    return [
        *(name for name in names if f"podrate-{pid}-" in name),
        *(link for link in links if f"podrate-{pid}-" in link),
        *cgroups,
    ]


def tbf(namespace: Namespace, rate: str, *options: str) -> None:
    namespace.run(["tc", "qdisc", "add", "dev", namespace.device, "root", "tbf", "rate", rate, *options])


def test_tcp_crosses_both_ways_and_leaves_nothing() -> None:
    with Lab() as lab, Cgroup("test", "kubepods/pod1/app") as cgroup:
        for traffic in (Traffic("egress", flows=2, seconds=1), Traffic("ingress", flows=2, seconds=1, family=6)):
            transfer = iperf.run(lab, traffic, cgroup)
            assert transfer.goodput > 1e9
            assert len(transfer.flows) == 2
            assert sum(transfer.flows) == pytest.approx(transfer.goodput, rel=0.01)
            assert transfer.intervals[-1].end == pytest.approx(1, abs=0.1)
        assert leftovers(os.getpid())
    assert not leftovers(os.getpid())


@pytest.mark.parametrize("direction", ["egress", "ingress"])
def test_a_tc_limit_is_measured_as_it_was_set(direction: Direction) -> None:
    with Lab() as lab:
        sender = lab.pod if direction == "egress" else lab.peer
        tbf(sender, "20mbit", "burst", "50kb", "latency", "25ms")
        transfer = iperf.run(lab, Traffic(direction, seconds=3))
        # Not the first second: slow start overflows the queue, and what then waits for a hole arrives at once.
        assert transfer.between(1, 3) == pytest.approx(20e6 * 0.956, rel=0.1)


def test_udp_counts_what_was_lost() -> None:
    with Lab() as lab:
        # Short enough that the queue overflows before the socket's send buffer blocks the sender.
        tbf(lab.pod, "10mbit", "burst", "10kb", "latency", "5ms")
        transfer = iperf.run(lab, Traffic(protocol="udp", rate=20e6, seconds=1))
        assert transfer.sent == pytest.approx(20e6 / 8 / 1400, rel=0.05)
        assert transfer.lost / transfer.sent == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rtt", [0.002, 0.02])
def test_the_delay_wire_has_its_rtt(rtt: float) -> None:
    with Lab(rtt=rtt) as lab:
        with probe.Server(lab.peer) as server, probe.Probe(lab.pod, server, seconds=0.5) as asking:
            times = asking.wait()
        # The least: how long a busy machine let the others wait is not the wire's.
        assert rtt <= min(times) < rtt + 1.5e-3


def test_the_delay_wire_keeps_packets_whole() -> None:
    with Lab(rtt=0.002) as lab:
        transfer = iperf.run(lab, Traffic(seconds=1))
        # Not /sys/class/net: that shows the namespace of whoever mounted it.
        statistics = lab.peer.run(["grep", "eth0", "/proc/net/dev"]).partition(":")[2]
        packets = int(statistics.split()[1])
        assert transfer.goodput > 0.2e9
        assert transfer.goodput / 8 / packets > 3000  # bytes: GSO packets, not segments


def test_a_cgroup_kills_what_is_left_in_it() -> None:
    with Cgroup("test", "kubepods/pod1/app") as cgroup:
        process = subprocess.Popen(cgroup.command(["sleep", "60"]))
        while process.pid not in cgroup.processes():
            time.sleep(0.01)
        (cgroup.path / "below").mkdir()
    assert process.wait(1) == -signal.SIGKILL
    assert not cgroup.root.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(number: signal.Signals) -> None:
    script = """
from bench.cgroup import Cgroup
from bench.lab import Lab, Namespace
with Lab(rtt=0.002) as lab, Cgroup("test", "pod1") as cgroup:
    lab.pod.popen(["sh", "-c", "sleep 60 & sleep 60"], cgroup)
    print("up", flush=True)
    lab.peer.run(["sleep", "60"], timeout=60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        child.send_signal(number)
        assert child.wait(10) != 0
    assert not leftovers(child.pid)


def test_a_failed_tool_is_one_line() -> None:
    with Lab() as lab, pytest.raises(LabError) as caught:
        lab.pod.run(["tc", "qdisc", "add", "dev", "nowhere", "root", "tbf"])
    assert "\n" not in str(caught.value)
    assert "nowhere" in str(caught.value)
