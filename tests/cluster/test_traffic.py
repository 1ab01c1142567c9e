"""What a limited pod can send and receive, measured by iperf3 and from the application's first packet on."""

import json
import subprocess
from datetime import datetime

import pytest

from . import node as node_pod
from .conftest import Figures, Pod
from .images import Images
from .kubectl import Cluster, application
from .node import Node
from .traffic import EGRESS, INGRESS, iperf3

LIMITS = {EGRESS: 20e6, INGRESS: 50e6}  # of the pod `limited`, bit/s


@pytest.mark.parametrize("direction", LIMITS)
@pytest.mark.parametrize("server", [node_pod.NAME, "peer"])
def test_limited(cluster: Cluster, pods: dict[str, Pod], figures: Figures, direction: str, server: str) -> None:
    """Against the node's network namespace, and against another pod on the same node."""
    ratio = iperf3(cluster, "limited", direction, pods[server].address).goodput / LIMITS[direction]
    figures[f"{direction} against {server}, goodput / limit"] = ratio
    assert 0.85 <= ratio <= 1.05


@pytest.mark.parametrize("direction", LIMITS)
def test_unlabelled_pod_is_unlimited(cluster: Cluster, pods: dict[str, Pod], figures: Figures, direction: str) -> None:
    goodput = iperf3(cluster, "peer", direction, pods[node_pod.NAME].address, seconds=1, omit=0).goodput
    figures[f"{direction} without a label, Mbit/s"] = goodput / 1e6
    assert goodput > 10 * max(LIMITS.values())


def test_a_pod_on_the_hosts_network_is_limited(
    cluster: Cluster, pods: dict[str, Pod], node: Node, images: Images, figures: Figures
) -> None:
    """Though it may change that: the limit is its cgroup's."""
    limit = 20e6
    it = application("host-network", images.app, ["sleep", "infinity"], {"podrate.io/bandwidth": "20M"}, **node.beside)
    it["spec"]["hostNetwork"] = True
    it["spec"]["containers"][0]["securityContext"] = {"capabilities": {"add": ["NET_ADMIN"]}}
    cluster.create(it)
    cluster.wait_ready("host-network")
    for direction in LIMITS:
        ratio = iperf3(cluster, "host-network", direction, pods["peer"].address, seconds=2).goodput / limit
        figures[f"{direction} on the host's network, goodput / limit"] = ratio
        assert 0.85 <= ratio <= 1.05
    cluster.delete("host-network")


def test_first_packet_is_limited(cluster: Cluster, node: Node, images: Images, figures: Figures) -> None:
    """An application that sends as fast as it can from its first instruction on, with a limit and, as control, without.

    The receiver, outside of the pod, counts what arrives in the 300 ms from the first packet on.
    """
    limit, window = 10e6, 0.3
    arrived, offered = {}, {}
    for port, (name, labels) in enumerate(
        {"burst-limited": {"podrate.io/egress": "10M"}, "burst-control": {}}.items(), start=5301
    ):
        receive = ["kubectl", "-n", cluster.namespace, "exec", node_pod.NAME, "--"]
        receive += ["python3", "/receive.py", str(port), str(window)]
        with subprocess.Popen(receive, env=cluster.environment, stdout=subprocess.PIPE, text=True) as receiver:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "listening\n"
            blast = ["python3", "/blast.py", node.address, str(port), str(window)]
            cluster.create(application(name, images.app, blast, labels, **node.beside))
            arrived[name] = json.loads(receiver.stdout.readline())["wire_bytes"]
        cluster.wait_ready(name)
        offered[name] = json.loads(cluster.logs(name, "app")[-1])["offered_bytes"]
    loader, app = (_first_line(cluster, "burst-limited", container) for container in ("podrate", "app"))
    cluster.delete(*arrived)

    figures["first 300 ms of a 10M pod, arrived / limit"] = arrived["burst-limited"] * 8 / window / limit
    figures["first 300 ms without a limit, arrived / 10M"] = arrived["burst-control"] * 8 / window / limit
    assert loader < app
    assert offered["burst-limited"] * 8 > 10 * limit * window
    # A burst and a horizon of 10 ms each (loader/shaper.py), and as much again for a noisy machine.
    assert arrived["burst-limited"] * 8 <= limit * (window + 0.04)
    assert arrived["burst-control"] * 8 > 5 * limit * window


def _first_line(cluster: Cluster, name: str, container: str) -> datetime:
    """When a container logged its first line, by the runtime's clock."""
    stamp, _, line = cluster.logs(name, container, "--timestamps")[0].partition(" ")
    assert container == "app" or "is in force" in line
    return datetime.fromisoformat(stamp)
