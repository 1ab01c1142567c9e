"""Faults of the node: kubelet, containerd and the API server killed under a limited pod; a pod begun anew."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Fault

from . import node as node_pod
from .conftest import Figures, Pod, pod
from .images import RECIPES, ROOT, Images
from .kubectl import Cluster, application, eventually
from .machine import Machine
from .node import Node
from .traffic import EGRESS, begin

# What a reboot leaves of a pod: its object. The kubelet comes again by itself, and finds neither processes nor cgroup.
REBOOT = """
kill -KILL $(pgrep --exact kubelet)
echo 1 >$1/cgroup.kill
until find $1 -depth -type d -exec rmdir {} +; do sleep 0.05; done 2>/dev/null
"""


@pytest.mark.parametrize("program", ["kubelet", "containerd", "kube-apiserver"])
def test_killed_under_a_limited_pod(
    cluster: Cluster, pods: dict[str, Pod], node: Node, machine: Machine, figures: Figures, fault: Fault, program: str
) -> None:
    limited = pods["limited"]
    before = node.programs_of(limited.uid), node.loader(limited.uid), _restarts(cluster)
    finished = begin(cluster, "limited", EGRESS, pods[node_pod.NAME].address, seconds=8)
    time.sleep(2)
    killed = time.monotonic()
    machine.kill(program)
    reach = ("limited", "echo", "reached")  # printed: without `check` a failure prints nothing
    eventually("the pod is reached", lambda: cluster.execute(*reach, check=False) == "reached\n", 60)
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


def test_a_pod_that_is_begun_anew_is_limited_from_its_first_packet_on(
    cluster: Cluster, node: Node, images: Images, machine: Machine, figures: Figures, fault: Fault
) -> None:
    name, port, window, rate = "rebooted", 5313, 0.3, 10e6
    blast = ["python3", "/blast.py", node.address, str(port), str(window)]
    cluster.create(application(name, images.app, blast, {"podrate.io/egress": "10M"}, **node.beside))
    cluster.wait_ready(name)
    eventually("it has sent, and idles", lambda: cluster.logs(name, "app"))
    uid = pod(cluster, name).uid
    before = {each.id for each in node.programs_of(uid)}
    assert before
    receive = ["python3", str(ROOT / RECIPES.app.split()[1] / "receive.py"), str(port), str(window)]
    with ThreadPoolExecutor(1) as threads:
        received = threads.submit(machine.run, *receive)
        cgroup = node.cgroups_of(uid)[0].removeprefix(node.cgroup_root)
        killed = time.monotonic()
        machine.run("bash", "-c", REBOOT, "bash", f"/sys/fs/cgroup{cgroup}")
        arrived = json.loads(received.result().splitlines()[-1])["wire_bytes"] * 8 / window / rate
        took = time.monotonic() - killed
    after = {each.id for each in eventually("its programs", lambda: node.programs_of(uid))}
    assert before.isdisjoint(after)
    assert pod(cluster, name).uid == uid
    figures["first 300 ms of a pod begun anew, arrived / limit"] = arrived
    assert arrived <= 1 + 0.04 / window  # as in test_first_packet_is_limited
    cluster.delete(name)
    fault(
        "a pod's processes and its cgroup are gone, as after a reboot of the node",
        "the kubelet starts the loader first; the limit is in force from the application's first packet on",
        f"the first {window * 1000:.0f} ms {arrived:.0%} of the limit; begun again after {took:.1f} s",
    )


def _restarts(cluster: Cluster) -> list[int]:
    status = cluster.get("pod", "limited")["status"]
    return [each["restartCount"] for each in status["initContainerStatuses"] + status["containerStatuses"]]
