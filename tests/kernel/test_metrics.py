"""The sidecar's metrics, scraped: what Prometheus reads is what the kernel holds."""

import re
import socket
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bandwidth.limit import Limit
from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from tests.kernel.pod import Pod

M = 1_000_000


@pytest.fixture
def port(pod: Pod) -> int:
    """A sidecar with metrics; where they are."""
    pod.environment["PODRATE_METRICS_PORT"] = "0"  # any that is free
    pod.start()
    assert pod.probe().returncode == 0
    deadline = time.monotonic() + 5
    while not (found := re.search(r"metrics are on port (\d+)", pod.log())):
        assert time.monotonic() < deadline, pod.log()
        time.sleep(0.01)
    return int(found[1])


def scrape(port: int, host: str = "127.0.0.1") -> dict[str, float]:
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = response.read().decode().splitlines()
    return {name: float(value) for line in lines if line[0] != "#" for name, value in [line.rsplit(" ", 1)]}


def test_limit_and_counters(lab: Lab, pod: Pod, pod_cgroup: Cgroup, port: int) -> None:
    before = scrape(port)
    assert before['podrate_limit_bits_per_second{direction="egress"}'] == 10 * M
    assert before['podrate_limit_bits_per_second{direction="ingress"}'] == 20 * M
    iperf.run(lab, Traffic(protocol="udp", rate=20 * M, seconds=2), pod_cgroup)
    after = scrape(port, "[::1]")
    grown = {name: after[name] - before[name] for name in before}
    assert grown['podrate_passed_bytes_total{direction="egress"}'] == pytest.approx(10 * M / 8 * 2, rel=0.1)
    assert grown['podrate_dropped_packets_total{direction="egress"}'] > 1000
    assert grown['podrate_throttled_seconds_total{direction="egress"}'] > 1.5
    assert grown['podrate_dropped_packets_total{direction="ingress"}'] == 0
    assert after['podrate_part_active{part="pacing"}'] == 1

    pod.annotate(Limit(egress=5 * M))
    pod.await_limit(Limit(egress=5 * M), 1)
    changed = scrape(port)
    assert changed['podrate_limit_bits_per_second{direction="egress"}'] == 5 * M
    assert 'podrate_limit_bits_per_second{direction="ingress"}' not in changed


def test_prometheus_own_parser_reads_it(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    assert len({family.name for family in families}) == len(families) == 13
    for family in families:
        assert family.documentation
        assert family.type in ("counter", "gauge")
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /metrics?a=b HTTP/1.0\r\nHost: x\r\n\r\n", b"200"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200"),
        (b"\x00" * 20000, b"400"),
        (b"GET /metrics", b"400"),
    ],
)
def test_what_else_may_be_asked(port: int, sent: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        answer = b""
        with suppress(OSError):  # reset, where it did not read all that we sent
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
    if answer:
        assert answer.split()[1] == status
    scrape(port)  # it goes on


def test_it_outlives_a_scraper_that_says_nothing(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)):
        began = time.monotonic()
        scrape(port)
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("bad", ["http", "-1", "65536", "٣"])
def test_a_bad_port_is_a_line_and_no_hindrance(pod: Pod, bad: str) -> None:
    pod.environment["PODRATE_METRICS_PORT"] = bad
    pod.start()
    assert pod.probe().returncode == 0
    assert "no metrics: PODRATE_METRICS_PORT: " in pod.log()


def test_a_port_that_is_taken_is_a_line_and_no_hindrance(pod: Pod) -> None:
    with socket.create_server(("", 0)) as taken:
        pod.environment["PODRATE_METRICS_PORT"] = str(taken.getsockname()[1])
        pod.start()
        assert pod.probe().returncode == 0
        deadline = time.monotonic() + 5
        while "no metrics: " not in pod.log():
            assert time.monotonic() < deadline, pod.log()
            time.sleep(0.01)
    pod.annotate(Limit(egress=5 * M))
    pod.await_limit(Limit(egress=5 * M), 1)
