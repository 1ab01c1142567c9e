"""Faults of the node: kubelet and containerd killed under a limited pod."""

import time

import pytest

from tests.conftest import Fault

from . import node as node_pod
from .conftest import Figures, Pod
from .kubectl import Cluster, eventually
from .machine import Machine
from .node import Node
from .traffic import EGRESS, begin


@pytest.mark.parametrize("program", ["kubelet", "containerd"])
def test_killed_under_a_limited_pod(
    cluster: Cluster, pods: dict[str, Pod], node: Node, machine: Machine, figures: Figures, fault: Fault, program: str
) -> None:
    limited = pods["limited"]
    before = node.programs_of(limited.uid), node.loader(limited.uid), _restarts(cluster)
    finished = begin(cluster, "limited", EGRESS, pods[node_pod.NAME].address, seconds=8)
    time.sleep(2)
    killed = time.monotonic()
    machine.kill(program)
    eventually("the pod is reached", lambda: cluster.execute("limited", "true", check=False, timeout=5) == "", 60)
    took = time.monotonic() - killed
    flow = finished()
    ratio, most = flow.goodput / 20e6, flow.highest(intervals=5) / 20e6
    figures[f"egress while {program} is killed, goodput / limit"] = ratio
    figures[f"egress while {program} is killed, highest 500 ms / limit"] = most
    figures[f"{program} killed to the pod reached again, s"] = took
    assert 0.85 <= ratio <= 1.05
    assert most < 1.5, flow.intervals
    assert (node.programs_of(limited.uid), node.loader(limited.uid), _restarts(cluster)) == before
    # What the kubelet has to do with a limit, it does again: the keys reach the loader.
    cluster.kubectl("label", "pod", "limited", "podrate.io/egress=30M", "--overwrite")
    eventually("the new limit", lambda: '"egress":30000000' in cluster.logs("limited", "podrate")[-1], 120)
    cluster.kubectl("label", "pod", "limited", "podrate.io/egress=20M", "--overwrite")
    eventually("the old limit", lambda: '"egress":20000000' in cluster.logs("limited", "podrate")[-1], 120)
    fault(
        f"{program} is killed under a limited pod",
        "the limit stays in force, and the same loader follows the keys afterwards",
        f"TCP over it {ratio:.0%} of the limit, at most {most:.0%} in half a second; back after {took:.1f} s",
    )


def _restarts(cluster: Cluster) -> list[int]:
    status = cluster.get("pod", "limited")["status"]
    return [each["restartCount"] for each in status["initContainerStatuses"] + status["containerStatuses"]]
