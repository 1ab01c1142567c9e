"""Kernels that lack something: each part of the shaper left out, and what the rest of it then keeps."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bandwidth.limit import Limit
from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from loader import bpf, parts
from loader.bucket import EGRESS, INGRESS
from loader.shaper import Shaper
from tests.kernel.conftest import Podrate

M = 1_000_000


@contextmanager
def shaper_without(part: int, cgroup: Cgroup) -> Iterator[Shaper]:
    with Shaper(without=part) as shaper:
        shaper.attach(str(cgroup.path.parent), bpf.EXCLUSIVE)
        yield shaper


def test_this_kernel_has_every_part(lab: Lab, pod_cgroup: Cgroup) -> None:
    """In use, not only by name: what the kernel refuses at run time is noted then."""
    with shaper_without(0, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(10 * M, 10 * M))
        iperf.run(lab, Traffic(seconds=1), pod_cgroup)
        assert shaper.buckets.state().parts == parts.ALL


@pytest.mark.parametrize("part", [parts.EXCHANGE, parts.RTT, parts.WINDOW])
def test_egress_is_paced_without(lab: Lab, pod_cgroup: Cgroup, part: int) -> None:
    with shaper_without(part, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(egress=20 * M))
        transfer = iperf.run(lab, Traffic(flows=4, seconds=2), pod_cgroup)
        assert shaper.buckets.state().parts == parts.ALL & ~part
        assert 0.85 < transfer.goodput / (20 * M) < 1
        assert transfer.retransmits == 0


def test_egress_that_can_not_be_paced_is_policed(lab: Lab, pod_cgroup: Cgroup) -> None:
    """Worse, but never above the limit, and never the textbook bucket's collapse (.25 of it)."""
    with shaper_without(parts.PACING, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(egress=20 * M))
        transfer = iperf.run(lab, Traffic(flows=4, seconds=3), pod_cgroup)
        assert 0.4 < transfer.goodput / (20 * M) < 1


@pytest.mark.parametrize("part", [parts.EXCHANGE, parts.RTT, parts.WINDOW])
def test_ingress_keeps_the_limit_without(lab: Lab, pod_cgroup: Cgroup, part: int) -> None:
    with shaper_without(part, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(ingress=20 * M))
        transfer = iperf.run(lab, Traffic(direction="ingress", flows=4, seconds=2), pod_cgroup)
        assert 0.8 < transfer.goodput / (20 * M) < 1.1


def test_clamped_windows_spare_retransmits() -> None:
    """What the window is for: over a real path it loses nothing where the bucket alone would."""
    retransmits = {}
    for part in (0, parts.WINDOW):
        with Lab(rtt=0.01) as far, Cgroup("test", "pod/container") as cgroup, shaper_without(part, cgroup) as shaper:
            shaper.buckets.set(Limit(ingress=50 * M))
            retransmits[part] = iperf.run(far, Traffic(direction="ingress", flows=4, seconds=3), cgroup).retransmits
    assert retransmits[0] < retransmits[parts.WINDOW] / 2


def test_a_limit_changes_live_without_compare_and_exchange(lab: Lab, pod_cgroup: Cgroup) -> None:
    with shaper_without(parts.EXCHANGE, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(egress=5 * M))
        with iperf.Run(lab, Traffic(seconds=2), pod_cgroup) as under_way:
            shaper.buckets.set(Limit(egress=40 * M))
            assert 0.8 < under_way.wait().between(0.5, 2) / (40 * M) < 1.1


def test_status_says_what_is_missing(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    pod = str(pod_cgroup.path.parent)
    with shaper_without(parts.EXCHANGE | parts.WINDOW, pod_cgroup):
        (described,) = json.loads(podrate("status", "--sample", "0", "--json", pod).stdout)
        assert described["parts"] == {"exchange": "off", "pacing": "active", "rtt": "active", "window": "off"}
        printed = podrate("status", pod).stdout
        assert "exchange off" in printed
        assert "window off" in printed
        assert "rtt" not in printed


def test_a_part_that_does_not_exist_is_refused() -> None:
    with Shaper() as shaper:
        for bad in (-1, parts.ALL + 1):
            with pytest.raises(ValueError, match="no such part"):
                shaper.buckets.want(bad)
        assert shaper.buckets.state().wanted == parts.ALL


def test_connections_are_counted_while_they_are_open(lab: Lab, pod_cgroup: Cgroup) -> None:
    with shaper_without(0, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(egress=20 * M))
        script = (
            "import socket, sys, threading\n"
            "server = socket.create_server((sys.argv[1], 0)); print(server.getsockname()[1], flush=True)\n"
            "held = [server.accept()[0] for _ in range(8)]\n"
            "for each in held: each.recv(1)\n"
        )
        peer = lab.peer.popen(["python3", "-c", script, lab.peer.v4])
        assert peer.stdout is not None
        port = peer.stdout.readline().strip()
        client = (
            f"import socket, sys\nheld = [socket.create_connection(('{lab.peer.v4}', {port})) for _ in range(8)]\n"
            "print(flush=True); sys.stdin.read()\n"
        )
        opened = lab.pod.popen(["python3", "-c", client], pod_cgroup, stdin=subprocess.PIPE)
        assert opened.stdout is not None
        assert opened.stdin is not None
        opened.stdout.readline()
        assert shaper.buckets.state().connections == 8
        opened.stdin.close()
        opened.wait(10)
        peer.wait(10)
        assert shaper.buckets.state().connections == 0


def evenly(lab: Lab, pod_cgroup: Cgroup, direction: str) -> None:
    """1000 datagrams of the pod's or to it, at 10M at most: one that is late, for others use the CPU, makes the next
    one late, too. iperf3 would send what it missed at once, and be held back for it."""
    receive = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 5209)); print(flush=True)\n"
    receive += "while True: s.recv(2000)"
    send = "import socket, sys, time; s = socket.socket(type=socket.SOCK_DGRAM)\n"
    send += "for _ in range(1000): s.sendto(bytes(1200), (sys.argv[1], 5209)); time.sleep(0.001)"
    pod, peer = (lab.pod, pod_cgroup), (lab.peer, None)
    (there, its_cgroup), (here, our_cgroup) = (peer, pod) if direction == "egress" else (pod, peer)
    receiver = there.popen(["python3", "-c", receive], its_cgroup)
    assert receiver.stdout is not None
    receiver.stdout.readline()
    sender = here.popen(["python3", "-c", send, there.v4], our_cgroup)
    assert sender.wait(60) == 0
    receiver.kill()
    receiver.wait()


@pytest.mark.parametrize(("direction", "index"), [("egress", EGRESS), ("ingress", INGRESS)])
def test_throttled_is_the_time_in_which_the_limit_is_used_up(
    lab: Lab, pod_cgroup: Cgroup, direction: str, index: int
) -> None:
    with shaper_without(0, pod_cgroup) as shaper:
        shaper.buckets.set(Limit(20 * M, 20 * M))
        evenly(lab, pod_cgroup, direction)
        assert shaper.buckets.counters(index).passed_packets >= 1000
        assert shaper.buckets.counters(index).throttled_ns < 0.1e9
        assert not shaper.buckets.pressure(index).held_back

        with iperf.Run(lab, Traffic(direction=direction, seconds=2), pod_cgroup) as under_way:  # type: ignore[arg-type]
            time.sleep(0.5)
            looks = 0
            for _ in range(20):
                time.sleep(0.04)
                looks += shaper.buckets.pressure(index).held_back
            under_way.wait()
        assert looks > 15
        assert 1.5e9 < shaper.buckets.counters(index).throttled_ns < 2.5e9
