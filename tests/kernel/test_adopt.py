"""Connections that are older than the limit, or outlive it, with real traffic."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from bandwidth.limit import Limit
from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from loader import bpf
from loader.adopt import Adopted, Adopter
from loader.attached import find_attached
from loader.shaper import Shaper
from tests.kernel.conftest import Podrate

M = 1_000_000
# What `podrate attach` needs at least. Without CAP_SYS_ADMIN and CAP_PERFMON no iterator can be loaded.
NO_ITERATOR = ("setpriv", "--bounding-set=-all,+bpf,+net_admin,+sys_ptrace", "--inh-caps=-all")


@pytest.fixture
def service() -> Iterator[Cgroup]:
    """A worker's cgroup, below that of the service, which is the one to be limited."""
    with Cgroup("adopt", "service/worker") as cgroup:
        yield cgroup


def attach(service: Cgroup, egress: int, *, iterator: bool = True) -> Adopted:
    """As `podrate attach` does, on the service."""
    path = str(service.path.parent)
    with Shaper() as shaper, Adopter(iterator=iterator) as adopter:
        shaper.buckets.set(Limit(egress=egress))
        shaper.attach(path, bpf.EXCLUSIVE)
        return adopter.adopt(path, shaper)


@pytest.mark.parametrize(("flows", "family"), [(1, 4), (8, 4), (1, 6)])
def test_a_running_transfer_is_paced(lab: Lab, service: Cgroup, podrate: Podrate, flows: int, family: int) -> None:
    """Unpaced, it gets half of the limit."""
    traffic = Traffic(flows=flows, seconds=5, family=family)  # type: ignore[arg-type]
    with iperf.Run(lab, traffic, service) as under_way:
        time.sleep(1)
        done = podrate("attach", "--egress", "10M", str(service.path.parent))
        transfer = under_way.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert 0.85 < transfer.between(3.5, 5) / (10 * M) < 0.97
    buffer = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])
    assert transfer.retransmits <= buffer / 1448, "what was on its way when the limit came, a send buffer at most"


def test_adopted_connections_share_and_follow_like_any_other(lab: Lab, service: Cgroup) -> None:
    """7 of 8 end, and then the limit changes: at a fixed pace the last one would get an eighth."""
    with iperf.Run(lab, Traffic(seconds=6), service) as last:
        with iperf.Run(lab, Traffic(flows=7, seconds=2, port=5301), service) as others:
            time.sleep(1)
            adopted = attach(service, 10 * M)
            others.wait()
        time.sleep(1)
        assert attach(service, 20 * M).connections == 0, "a shaper has met them already"
        transfer = last.wait()
    assert (adopted.connections, adopted.mode) == (10, "live"), "each iperf3 has a control connection too"
    assert 0.85 < transfer.between(5, 6) / (20 * M) < 0.97


def test_without_an_iterator_they_get_a_fixed_pace(lab: Lab, service: Cgroup) -> None:
    with iperf.Run(lab, Traffic(flows=4, seconds=7), service) as under_way:
        time.sleep(1)
        adopted = attach(service, 10 * M, iterator=False)
        transfer = under_way.wait()
    assert (adopted.connections, adopted.mode) == (5, "fixed")
    # Long enough: what arrives of iperf3's blocks of 128 kB goes up and down by a tenth within two seconds.
    assert 0.8 < transfer.between(3, 7) / (10 * M) < 0.99


def test_a_fixed_pace_is_said(lab: Lab, service: Cgroup, podrate: Podrate) -> None:
    with iperf.Run(lab, Traffic(seconds=4), service) as under_way:
        time.sleep(1)
        done = podrate("attach", "--egress", "10M", str(service.path.parent), prefix=NO_ITERATOR)
        transfer = under_way.wait()
    line = r"podrate: 2 older TCP connection\(s\) are paced at 9\.5Mbit/s each until they close; .* Linux 6\.12 .*\n"
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(line, done.stderr), done.stderr
    assert transfer.between(3, 4) / (10 * M) > 0.8


@pytest.mark.parametrize("iterator", [True, False])
def test_what_is_not_of_the_cgroup_is_left_alone(lab: Lab, service: Cgroup, iterator: bool) -> None:
    with Cgroup("other") as other, iperf.Run(lab, Traffic(seconds=2), other) as under_way:
        time.sleep(0.5)
        # A process of the same network namespace is in the cgroup: without one there is nothing to visit.
        lab.pod.popen(["sleep", "5"], service)
        time.sleep(0.2)
        assert attach(service, 10 * M, iterator=iterator).connections == 0
        assert under_way.wait().between(1, 2) > 500 * M


@pytest.mark.parametrize("iterator", [True, False])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.2", "own"])
def test_a_connection_of_the_pod_with_itself_is_left_alone(
    lab: Lab, service: Cgroup, address: str, iterator: bool
) -> None:
    address = lab.pod.v4 if address == "own" else address
    process = lab.pod.popen(["python3", "-c", _WITH_ITSELF, address], service)
    assert process.stdout is not None
    assert process.stdout.readline() == "connected\n"
    assert attach(service, 10 * M, iterator=iterator).connections == 0
    assert float(process.stdout.readline()) > 200, "Mbit/s, of a limit of 10"
    process.wait(5)


def test_a_detached_limit_leaves_nothing_on_a_busy_connection(lab: Lab, service: Cgroup, podrate: Podrate) -> None:
    path = str(service.path.parent)
    assert podrate("attach", "--egress", "10M", path).returncode == 0
    with iperf.Run(lab, Traffic(seconds=3), service) as under_way:
        time.sleep(1)
        done = podrate("detach", path)
        transfer = under_way.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert transfer.between(2, 3) > 500 * M


@pytest.mark.parametrize("iterator", [True, False])
def test_a_detached_limit_leaves_nothing_on_an_idle_connection(lab: Lab, service: Cgroup, iterator: bool) -> None:
    path = str(service.path.parent)
    with Shaper() as shaper:
        shaper.buckets.set(Limit(egress=1 * M))
        shaper.attach(path, bpf.EXCLUSIVE)
    sink = lab.peer.popen(["python3", "-c", _SINK, lab.peer.v4])
    assert sink.stdout is not None
    source = lab.pod.popen(["python3", "-c", _SOURCE, lab.peer.v4, sink.stdout.readline()], service, stdin=PIPE)
    assert source.stdin is not None
    assert source.stdout is not None
    assert source.stdout.readline() == "idle\n"
    attached = find_attached(path)
    assert attached is not None
    attached.detach()
    attached.close()
    with Adopter(iterator=iterator) as adopter:
        adopter.release(path)
    source.stdin.write("go\n")
    source.stdin.flush()
    assert float(source.stdout.readline()) > 100, "Mbit/s, after a limit of 1"


_SINK = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print(server.getsockname()[1], flush=True)
peer, _ = server.accept()
while peer.recv(1 << 20): pass
"""

_SOURCE = """
import sys, socket, time
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
client.sendall(bytes(50000))
time.sleep(0.7)
print("idle", flush=True)
sys.stdin.readline()
start, sent = time.monotonic(), 0
client.settimeout(1)
while (passed := time.monotonic() - start) < 0.5: sent += client.send(bytes(1 << 20))
print(sent * 8e-6 / passed, flush=True)
"""

_WITH_ITSELF = """
import socket, sys, threading, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], 0), family=family, dualstack_ipv6=":" in sys.argv[1])
client = socket.create_connection(server.getsockname()[:2])
peer, _ = server.accept()
def drain():
    while peer.recv(1 << 20): pass
threading.Thread(target=drain).start()
print("connected", flush=True)
time.sleep(0.5)
start, sent = time.monotonic(), 0
while (passed := time.monotonic() - start) < 0.5: sent += client.send(bytes(1 << 20))
client.close()
print(sent * 8e-6 / passed, flush=True)
"""
