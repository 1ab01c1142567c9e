"""Faults of a pod: its loader killed, its application crashing, many connections, no image of the loader."""

import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Fault
from webhook.sidecar import Settings

from . import injected
from . import node as node_pod
from .conftest import Figures, Pod, pod
from .images import Images
from .kubectl import Cluster, application, eventually
from .node import Node, Program
from .traffic import EGRESS, iperf3

CRASHING, STARTS, PORT, WINDOW = "crashing", 3, 5311, 0.3  # the port of the receiver, and how long it counts, in s


@pytest.fixture(scope="module")
def crashes(cluster: Cluster, node: Node, images: Images) -> Iterator[subprocess.Popen[str]]:
    """A pod under 10M whose application sends as fast as it can and dies; and who counts what arrives of each start.

    The kubelet starts it anew at once, then after 10 s: the other tests of this file run meanwhile.
    """
    script = f"for _ in $(seq {STARTS}); do python3 /receive.py {PORT} {WINDOW}; done"
    receive = ["kubectl", "-n", cluster.namespace, "exec", node_pod.NAME, "--", "sh", "-c", script]
    with subprocess.Popen(receive, env=cluster.environment, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        crash = f"timeout --signal=KILL 1 python3 /blast.py {node.address} {PORT} {WINDOW}"
        labels = {"podrate.io/egress": "10M"}
        cluster.create(application(CRASHING, images.app, ["sh", "-c", crash], labels, **node.beside))
        yield receiver
        receiver.kill()
    cluster.delete(CRASHING)


@pytest.mark.usefixtures("crashes")
def test_killed_loader_leaves_the_limit_and_the_next_takes_over(
    cluster: Cluster, pods: dict[str, Pod], node: Node, figures: Figures, fault: Fault
) -> None:
    limited = pods["limited"]
    before = {each.hook: each for each in node.programs_of(limited.uid)}
    loader = node.loader(limited.uid)
    assert loader
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(iperf3, cluster, "limited", EGRESS, pods[node_pod.NAME].address, 8, 1)
        time.sleep(3)
        node.execute("kill", "-KILL", str(loader))
        killed = time.monotonic()
        in_force = node.programs_of(limited.uid)
        eventually("another loader", lambda: node.loader(limited.uid) not in (None, loader))
        replaced = eventually("another program", lambda: _others(before, node.programs_of(limited.uid)))
        took = time.monotonic() - killed
        flow = running.result()
    assert {each.hook for each in in_force} == set(before)
    assert {each.hook for each in replaced} == set(before)
    assert {each.flags for each in replaced} == {""}
    # A millisecond without a limit would be 10 Mbit more, as much as half a second may carry. (Not a shorter time: when
    # the receiver gets no CPU for a while, all that came meanwhile counts for the interval after it.)
    ratio, most = flow.goodput / 20e6, flow.highest(intervals=5) / 20e6
    figures["egress over SIGKILL and takeover, goodput / limit"] = ratio
    figures["egress over SIGKILL and takeover, highest 500 ms / limit"] = most
    assert 0.85 <= ratio <= 1.05
    assert most < 1.5, flow.intervals
    status = cluster.get("pod", "limited")["status"]
    assert [each["restartCount"] for each in status["initContainerStatuses"]] == [1]
    assert [each["restartCount"] for each in status["containerStatuses"]] == [0]
    # It is in charge: it follows the label.
    cluster.kubectl("label", "pod", "limited", "podrate.io/egress=30M", "--overwrite")
    eventually("the new limit", lambda: '"egress":30000000' in cluster.logs("limited", "podrate")[-1])
    cluster.kubectl("label", "pod", "limited", "podrate.io/egress=20M", "--overwrite")
    eventually("the old limit", lambda: '"egress":20000000' in cluster.logs("limited", "podrate")[-1])
    fault(
        "a loader is killed",
        "the limit stays in force; the kubelet starts another loader, which takes over without a gap",
        f"TCP over it {ratio:.0%} of the limit, at most {most:.0%} in half a second; another after {took:.1f} s",
    )


def _others(before: dict[str, Program], now: list[Program]) -> list[Program]:
    """The programs of both hooks, once neither is the one that was there before."""
    return now if len(now) == len(before) and all(each.id != before[each.hook].id for each in now) else []


@pytest.mark.usefixtures("pods")
def test_500_connections_share_one_limit(cluster: Cluster, node: Node, figures: Figures, fault: Fault) -> None:
    connections, seconds, limit = 500, 8, 20e6
    accept = ["kubectl", "-n", cluster.namespace, "exec", node_pod.NAME, "--"]
    accept += ["python3", "/accept.py", "5312", str(connections), str(seconds)]
    with subprocess.Popen(accept, env=cluster.environment, stdout=subprocess.PIPE, text=True) as accepting:
        assert accepting.stdout is not None
        assert accepting.stdout.readline() == "listening\n"
        connect = ["python3", "/connect.py", node.address, "5312", str(connections), str(seconds + 10)]
        made = json.loads(cluster.execute("limited", *connect))
        received = json.loads(accepting.stdout.readline())
    assert made["connections"] == len(received) == connections
    ratio = sum(received) * 8 / seconds / limit
    served = sum(each > 0 for each in received)
    figures["egress of 500 connections, goodput / limit"] = ratio
    figures["500 connections, those that carried something"] = served
    figures["500 connections, until the last was made, s"] = made["made_after"]
    print(sorted(received))
    assert 0.85 <= ratio <= 1.05
    assert served == connections
    fault(
        "500 connections under one limit",
        "they share it; each gets something",
        f"TCP {ratio:.0%} of 20M over {seconds} s; all were made within {made['made_after']:.2f} s",
    )


def test_without_the_loaders_image_the_application_does_not_start(
    cluster: Cluster, node: Node, images: Images, fault: Fault
) -> None:
    began = time.monotonic()
    injected.create(cluster, node, images, "no-image", Settings("127.0.0.1:5000/podrate-loader:missing"))

    def said() -> list[str]:
        events = cluster.get("events", "--field-selector=involvedObject.name=no-image,reason=Failed")["items"]
        return [each["message"] for each in events if "127.0.0.1:5000/podrate-loader:missing" in each["message"]]

    messages = eventually("an event", said, 30)
    took = time.monotonic() - began
    print(messages)
    status = eventually("refused", lambda: _waits_for_image(cluster, "no-image"))
    (app,) = status["containerStatuses"]
    assert app["state"]["waiting"]["reason"] == "PodInitializing"
    assert not app["started"]
    assert node.programs_of(pod(cluster, "no-image").uid) == []
    cluster.delete("no-image")
    fault(
        "the loader's image is missing",
        "the application does not start; an event names the image and why it can't be pulled",
        f"the event after {took:.1f} s",
    )


def test_a_loop_of_crashes_is_limited_at_each_start(
    cluster: Cluster, node: Node, crashes: subprocess.Popen[str], figures: Figures, fault: Fault
) -> None:
    output, _ = crashes.communicate(timeout=60)
    arrived = [json.loads(line)["wire_bytes"] * 8 / WINDOW / 10e6 for line in output.splitlines() if "{" in line]
    figures["300 ms from each start of a pod that crashes, at most, arrived / limit"] = max(arrived)
    assert len(arrived) == STARTS
    assert max(arrived) <= 1 + 0.04 / WINDOW  # as in test_first_packet_is_limited
    status = cluster.get("pod", CRASHING)["status"]
    (app,), (loader,) = status["containerStatuses"], status["initContainerStatuses"]
    assert app["restartCount"] >= STARTS - 1
    assert (loader["restartCount"], loader["started"]) == (0, True)
    assert {each.hook for each in node.programs_of(pod(cluster, CRASHING).uid)} >= {"cgroup_inet_egress"}
    fault(
        "an application crashes again and again",
        "the loader stays; the limit is in force at each start, from the first packet on",
        f"the first {WINDOW * 1000:.0f} ms of each of {STARTS} starts, {max(arrived):.0%} of the limit at most",
    )


def _waits_for_image(cluster: Cluster, name: str) -> Any:
    """The status of a pod whose loader can't be had."""
    status = cluster.get("pod", name)["status"]
    (loader,) = status.get("initContainerStatuses", [{}])
    reason = loader.get("state", {}).get("waiting", {}).get("reason")
    return status if reason in ("ErrImagePull", "ImagePullBackOff") else None
