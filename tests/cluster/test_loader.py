"""The loader in a pod: where it attaches, what it follows, how it dies and what it leaves."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from webhook.sidecar import Settings

from . import injected
from . import node as node_pod
from .conftest import Figures, Pod, pod
from .images import Images
from .kubectl import Cluster, application, eventually
from .node import Node
from .traffic import EGRESS, SERVERS, iperf3


def test_attached_to_limited_pods_exclusively_and_nowhere_else(pods: dict[str, Pod], node: Node) -> None:
    programs = node.programs()
    assert {each.cgroup for each in programs} == {node.cgroups_of(pods[name].uid)[0] for name in ("limited", "live")}
    for cgroup in {each.cgroup for each in programs}:
        hooks = [each.hook for each in programs if each.cgroup == cgroup]
        assert {"cgroup_inet_egress", "cgroup_inet_ingress"} <= set(hooks)
        assert len(set(hooks)) == len(hooks)  # one each
    assert {each.flags for each in programs} == {""}  # neither multi nor override


def test_label_change_changes_the_rate_without_a_restart(
    cluster: Cluster, pods: dict[str, Pod], figures: Figures
) -> None:
    before = cluster.get("pod", "live")["status"]
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(iperf3, cluster, "live", EGRESS, pods[node_pod.NAME].address, 8, 1)
        time.sleep(4)
        cluster.kubectl("label", "pod", "live", "podrate.io/bandwidth=40M", "--overwrite")
        labelled = time.time()
        flow = running.result()
    after = cluster.get("pod", "live")["status"]
    for key in ("containerStatuses", "initContainerStatuses"):
        ids = [[(each["containerID"], each["restartCount"]) for each in status[key]] for status in (before, after)]
        assert ids[0] == ids[1]
    stamp, _, line = cluster.logs("live", "podrate", "--timestamps")[-1].partition(" ")
    assert '"egress":40000000' in line
    figures["label changed to new limit in force, s"] = datetime.fromisoformat(stamp).timestamp() - labelled
    ratios = flow.between(0, 2.5) / 10e6, flow.between(6, 8) / 40e6
    figures["egress before the change, goodput / limit"], figures["egress after the change, goodput / limit"] = ratios
    assert 0.85 <= ratios[0] <= 1.05
    assert 0.85 <= ratios[1] <= 1.05


def test_wrong_pod_uid_is_no_silent_failure(cluster: Cluster, node: Node, images: Images) -> None:
    """The sidecar as the webhook makes it, in a pod that was never sent to us, with the UID of no pod at all."""
    before = node.programs()
    cluster.create(injected.astray(cluster, images.app, "astray", **node.beside))

    def failed() -> Any:
        (status,) = cluster.get("pod", "astray")["status"].get("initContainerStatuses", [{}])
        return status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")

    ended = eventually("the loader's end", failed)
    (line,) = ended["message"].splitlines()
    assert line.startswith(f"podrate: no-cgroup: the cgroup of pod {injected.NOBODY} is nowhere")
    assert ended["exitCode"] == 6
    (app,) = cluster.get("pod", "astray")["status"]["containerStatuses"]
    assert app["state"]["waiting"]["reason"] == "PodInitializing"
    assert not app["started"]
    assert node.programs() == before
    cluster.delete("astray")


def _with_loader(cluster: Cluster, node: Node, images: Images, name: str, settings: Settings) -> Any:
    injected.create(cluster, node, images, name, settings)
    cluster.wait_ready(name)
    return cluster.get("pod", name)


def test_once_is_in_force_before_the_application_and_leaves_no_process(
    cluster: Cluster, node: Node, images: Images
) -> None:
    labels = {"podrate.io/bandwidth": "10M", "podrate.io/inject": "once"}
    cluster.create(application("once", images.app, SERVERS, labels, **node.beside))
    cluster.wait_ready("once")
    once = cluster.get("pod", "once")
    uid = once["metadata"]["uid"]
    programs = node.programs_of(uid)
    assert {"cgroup_inet_egress", "cgroup_inet_ingress"} <= {program.hook for program in programs}
    assert {program.flags for program in programs} == {""}
    assert node.loader(uid) is None
    ended = once["status"]["initContainerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("Completed", 0)
    assert "takes a new pod" in cluster.logs("once", "podrate")[-1]
    changed = cluster.kubectl("label", "pod", "once", "podrate.io/bandwidth=20M", "--overwrite", check=False)
    assert "this pod's limit was put in force once, when it was created" in changed.stderr
    cluster.delete("once")


def test_metrics_are_on_the_pods_address(cluster: Cluster, node: Node, images: Images) -> None:
    measured = _with_loader(cluster, node, images, "measured", Settings(images.loader, metrics_port=9095))
    scraped = node.scrape(f"{measured['status']['podIP']}:9095")
    assert scraped['podrate_limit_bits_per_second{direction="egress"}'] == 10e6
    cluster.delete("measured")


def test_deleted_pod_leaves_no_cgroup_and_no_program(cluster: Cluster, pods: dict[str, Pod], node: Node) -> None:
    uid = pods["live"].uid
    attached = {program.id for program in node.programs_of(uid)}
    assert attached <= node.loaded()
    cluster.delete("live")
    eventually("no cgroup of the pod", lambda: not node.cgroups_of(uid))
    eventually("no program of the pod", lambda: not attached & node.loaded())


def test_time_from_creation_to_attached_and_ready(
    cluster: Cluster, node: Node, images: Images, figures: Figures
) -> None:
    for name, labels in {"timed": {"podrate.io/bandwidth": "10M"}, "timed-control": {}}.items():
        began = time.time()
        cluster.create(application(name, images.app, SERVERS, labels, **node.beside))
        cluster.wait_ready(name)
        figures[f"pod creation to Ready, {'with' if labels else 'without'} a limit, s"] = time.time() - began
        if labels:
            stamp = datetime.fromisoformat(cluster.logs(name, "podrate", "--timestamps")[0].partition(" ")[0])
            figures["pod creation to attached, s"] = stamp.timestamp() - began
            process = node.loader(pod(cluster, name).uid)
            assert process
            figures["loader's process start to attached, s"] = stamp.timestamp() - node.started(process)
    cluster.delete("timed", "timed-control")
    assert figures["loader's process start to attached, s"] < 2
