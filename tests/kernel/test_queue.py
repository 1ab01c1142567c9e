"""The ingress queue, with real packets, and what it refuses."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bandwidth.limit import Limit
from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab, Namespace
from loader import bpf, queue
from loader.failure import EXIT_CODES, Failure
from loader.ifb import Measured
from loader.shaper import Shaper
from tests.kernel.conftest import ROOT, Podrate

M = 1_000_000
PODRATE = [sys.executable, "-m", "loader"]
# As in the pod: these two capabilities, no others.
CAPABILITIES = ["setpriv", "--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all", "--no-new-privs"]


@pytest.fixture
def net() -> Iterator[Lab]:
    """A lab of its own for each test, with default routes, as every pod has."""
    with Lab() as lab:
        lab.pod.run(["ip", "route", "add", "default", "via", lab.peer.v4])
        lab.pod.run(["ip", "-6", "route", "add", "default", "via", lab.peer.v6])
        yield lab


@pytest.fixture
def service(net: Lab) -> Iterator[Cgroup]:
    """A cgroup with a process in the pod's network namespace."""
    with Cgroup("queue", "service") as cgroup:
        net.pod.popen(["sleep", "60"], cgroup)
        while not any(_is_in(pid, net.pod) for pid in cgroup.processes()):
            time.sleep(0.01)
        yield cgroup


def _is_in(pid: int, namespace: Namespace) -> bool:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino == Path("/run/netns", namespace.name).stat().st_ino


def put(namespace: Namespace, rate: int | None) -> None:
    """As the sidecar does, which lives in the pod's network namespace."""
    with ThreadPoolExecutor(1, initializer=namespace.enter) as inside:
        inside.submit(queue.put, rate).result()


def leftovers(namespace: Namespace) -> str:
    """What tc and ip show of a queue."""
    devices = namespace.run(["ip", "-o", "link"])
    qdiscs = namespace.run(["tc", "qdisc", "show"])
    return "\n".join(line for line in (devices + qdiscs).splitlines() if "podrate-in" in line or "clsact" in line)


def found(cgroup: Cgroup) -> Measured:
    measured = queue.measured(str(cgroup.path))
    assert measured is not None
    return measured


@pytest.mark.parametrize(("rate", "flows", "family"), [(100 * M, 16, 4), (20 * M, 4, 6)])
def test_nothing_is_sent_again_where_the_round_trip_is_too_short_for_windows(
    net: Lab, service: Cgroup, rate: int, flows: int, family: int
) -> None:
    """Without the queue, a thousand segments in these two seconds."""
    with Shaper() as shaper:
        shaper.buckets.set(Limit(ingress=rate))
        shaper.attach(str(service.path), bpf.EXCLUSIVE)
        put(net.pod, rate)
        traffic = Traffic("ingress", flows=flows, seconds=2, family=family)  # type: ignore[arg-type]
        transfer = iperf.run(net, traffic, service)
    assert 0.85 < transfer.goodput / rate < 0.98
    assert transfer.retransmits < 30
    assert found(service).packets > 1000


def test_a_new_rate_is_in_force_at_once_and_no_packet_is_lost(net: Lab, service: Cgroup) -> None:
    put(net.pod, 20 * M)
    with iperf.Run(net, Traffic("ingress", seconds=3), service) as under_way:
        time.sleep(1)
        before = found(service)
        put(net.pod, 100 * M)
        transfer = under_way.wait()
    assert before.rate == 20 * M
    assert found(service).rate == 100 * M
    assert transfer.between(0.3, 0.9) / M < 21
    assert 85 < transfer.between(1.6, 2.9) / M < 101
    assert found(service).packets > before.packets, "changed in place: the counters go on"


def test_only_tcp_waits_and_its_acknowledgements_do_not(net: Lab, service: Cgroup) -> None:
    put(net.pod, 10 * M)
    sent = iperf.run(net, Traffic("egress", seconds=1), service)
    assert sent.goodput > 200 * M, "what the pod sends is not slowed by a queue for what it receives"
    after_sending = found(service).packets
    iperf.run(net, Traffic("ingress", "udp", rate=20 * M, seconds=1), service)
    assert found(service).packets - after_sending < 100, "only iperf's own control connections"
    assert after_sending < 1000


def test_the_sidecar_needs_no_more_than_it_has(net: Lab) -> None:
    """NET_ADMIN is enough; and it loads libnl only for the queue."""
    script = "import sys; from loader import queue; queue.put(None); assert 'loader.libnl' not in sys.modules;"
    script += "queue.put(10_000_000)"
    net.pod.run([*CAPABILITIES, sys.executable, "-c", script])
    assert "podrate-in" in leftovers(net.pod)


def test_putting_it_twice_is_putting_it_once_and_removed_it_leaves_nothing(net: Lab) -> None:
    for _ in range(2):
        put(net.pod, 10 * M)
    filters = net.pod.run(["tc", "filter", "show", "dev", "eth0", "ingress"])
    assert filters.count("mirred") == 2, "IPv4 and IPv6"
    for _ in range(2):
        put(net.pod, None)
    assert leftovers(net.pod) == ""


def test_what_a_killed_command_left_is_completed(net: Lab) -> None:
    """The device and its hook, but no filter."""
    net.pod.run(["ip", "link", "add", "podrate-in", "up", "type", "ifb"])
    net.pod.run(["tc", "qdisc", "add", "dev", "eth0", "clsact"])
    put(net.pod, 10 * M)
    assert net.pod.run(["tc", "filter", "show", "dev", "eth0", "ingress"]).count("mirred") == 2
    put(net.pod, None)
    assert leftovers(net.pod) == ""


def test_attach_change_status_detach(net: Lab, service: Cgroup, podrate: Podrate) -> None:
    path = str(service.path)
    for rate in ("10M", "20M"):
        done = podrate("attach", "--ingress", rate, "--ingress-queue", path)
        assert (done.returncode, done.stderr) == (0, "")
    assert found(service).rate == 20 * M
    assert "queue   20Mbit/s" in podrate("status", path).stdout
    done = podrate("attach", "--ingress", "20M", path)
    assert (done.returncode, leftovers(net.pod)) == (0, ""), "a limit that is put without the queue has none"
    podrate("attach", "--ingress", "20M", "--ingress-queue", path)
    assert podrate("detach", path).returncode == 0
    assert leftovers(net.pod) == ""


def test_run_has_it_as_long_as_its_command(net: Lab) -> None:
    """The lab's namespace has no other process, so it may."""
    shown = net.pod.run([*PODRATE, "run", "--ingress", "10M", "--ingress-queue", "--", "ip", "-o", "link"])
    assert "podrate-in" in shown
    assert leftovers(net.pod) == ""


def test_an_attachment_that_fails_leaves_the_queue_as_it_was(net: Lab, service: Cgroup, podrate: Podrate) -> None:
    with Cgroup("queue-other", "service") as above, Shaper() as shaper:
        shaper.attach(str(above.path), bpf.EXCLUSIVE)
        below = above.child("below")
        net.pod.popen(["sleep", "60"], below)
        while not any(_is_in(pid, net.pod) for pid in below.processes()):
            time.sleep(0.01)
        for pid in service.processes():
            os.kill(pid, signal.SIGKILL)
        while service.processes():
            time.sleep(0.01)
        code, _ = podrate.error("attach", "--ingress", "10M", "--ingress-queue", str(below.path))
        assert code == EXIT_CODES["occupied"]
        assert leftovers(net.pod) == ""


def test_the_hosts_network_is_refused(podrate: Podrate) -> None:
    with Cgroup("queue", "service") as cgroup, subprocess.Popen(cgroup.command(["sleep", "60"])) as process:
        while process.pid not in cgroup.processes():
            time.sleep(0.01)
        code, line = podrate.error("attach", "--ingress", "10M", "--ingress-queue", str(cgroup.path))
        process.kill()
    assert code == EXIT_CODES["queue"]
    assert "shares the network" in line
    with pytest.raises(Failure, match="the host's own network namespace"):
        queue.put(10 * M)


def test_a_network_that_others_share_is_refused(net: Lab, service: Cgroup, podrate: Podrate) -> None:
    other = net.pod.popen(["sleep", "60"])
    while not _is_in(other.pid, net.pod):
        time.sleep(0.01)
    code, line = podrate.error("attach", "--ingress", "10M", "--ingress-queue", str(service.path))
    assert (code, f"process {other.pid} shares the network" in line) == (EXIT_CODES["queue"], True)
    assert leftovers(net.pod) == ""
    assert "no limit" in podrate("status", str(service.path)).stdout


@pytest.mark.parametrize("kind", ["clsact", "ingress"])
def test_a_hook_of_somebody_elses_is_left_alone(net: Lab, kind: str) -> None:
    net.pod.run(["tc", "qdisc", "add", "dev", "eth0", kind])
    with pytest.raises(Failure, match=f"eth0 has an ingress qdisc of somebody else's: {kind}"):
        put(net.pod, 10 * M)
    assert f"qdisc {kind}" in net.pod.run(["tc", "qdisc", "show", "dev", "eth0"])
    assert "podrate-in" not in leftovers(net.pod)


def test_a_device_that_only_has_the_name_is_left_alone(net: Lab) -> None:
    net.pod.run(["ip", "link", "add", "podrate-in", "type", "veth"])
    for rate in (10 * M, None):
        with pytest.raises(Failure, match="no ifb device"):
            put(net.pod, rate)


def test_no_default_route_and_a_rate_that_tbf_has_no_number_for(lab: Lab, net: Lab) -> None:
    with pytest.raises(Failure, match="no default route"):
        put(lab.pod, 10 * M)
    with pytest.raises(Failure, match="17G at most"):
        put(net.pod, 18_000 * M)
    assert leftovers(lab.pod) + leftovers(net.pod) == ""


def test_without_libnl_it_says_what_to_install(net: Lab) -> None:
    """A mount namespace without the library."""
    libraries = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    route = next(line.split("=> ")[1] for line in libraries.splitlines() if "libnl-route-3.so.200" in line)
    script = f'mount --bind /dev/null {route}; cd {ROOT}; exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
    argv = net.pod.command([*command, *PODRATE, "run", "--ingress", "10M", "--ingress-queue", "--", "true"])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 125
    assert "apt-get install libnl-route-3-200" in done.stderr


def test_the_queue_needs_an_ingress_limit(podrate: Podrate) -> None:
    code, line = podrate.error("run", "--egress", "10M", "--ingress-queue", "--", "true")
    assert (code, "nothing to queue" in line) == (125, True)
