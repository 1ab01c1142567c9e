"""Faults of the webhook: its replicas killed, its certificate taken away, its view of the API server cut."""

import base64
import contextlib
import json
import math
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Fault
from tests.webhook.load import UNLIMITED, Load, load
from webhook.api import Api

from .conftest import NAMESPACE, RELEASE, SYSTEM, Figures, Pod, pod
from .images import Images
from .kubectl import Cluster, application, eventually
from .machine import Machine
from .node import Node
from .serving import PODS, bundles, replicas, secret

pytestmark = pytest.mark.usefixtures("release")

RATE = 20  # reviews a second: the node, its API server and the tests share two cores
ASLEEP = ["sleep", "infinity"]
LIMITED = {"podrate.io/bandwidth": "10M"}


def outage(reviews: Load) -> float:
    """From the first request that failed to the end of the last, in seconds; and none was let through unlimited."""
    assert [each for each in reviews.failures if each.reason == UNLIMITED] == []
    if not reviews.failures:
        return 0.0
    return max(each.ended for each in reviews.failures) - min(each.made for each in reviews.failures)


def test_replicas_killed_one_after_the_other(
    cluster: Cluster, api: Api, node: Node, figures: Figures, fault: Fault
) -> None:
    outages, failed, done = [], 0, 0
    for name in _both(cluster):
        with load(api, RATE, NAMESPACE) as reviews:
            time.sleep(1)
            _kill(cluster, node, name)
            back = reviews.now()
            time.sleep(2)
        outages.append(outage(reviews))
        failed, done = failed + len(reviews.failures), done + reviews.done
        assert all(each.made < back for each in reviews.failures)
        assert all('failed calling webhook "pods.podrate.io"' in each.reason for each in reviews.failures)
        assert len(reviews.failures) < reviews.done / 2
    figures[f"of {done} reviews, failed as two replicas were killed"] = failed
    figures["replica killed, from the first failed review to the last, s"] = max(outages)
    fault(
        "the webhook's replicas are killed, one after the other",
        "what the API server had sent to it fails, and may be tried again; the other goes on, and it comes back",
        f"{failed} of {done} reviews failed, within {max(outages):.2f} s",
    )


def test_both_gone(
    cluster: Cluster, pods: dict[str, Pod], node: Node, images: Images, figures: Figures, fault: Fault
) -> None:
    before = node.programs_of(pods["limited"].uid)
    labelled = json.dumps(application("asks", images.app, ASLEEP, LIMITED))

    def create() -> str:
        return cluster.kubectl("create", "-f", "-", "--dry-run=server", stdin=labelled, check=False).stderr

    with _no_replica(cluster):
        eventually("refused", lambda: 'failed calling webhook "pods.podrate.io"' in create(), 30)
        assert f"https://{RELEASE}.{SYSTEM}.svc:443/mutate" in create()
        began = time.monotonic()
        cluster.create(application("no-webhook", images.app, ASLEEP, **node.beside))
        cluster.wait_ready("no-webhook")
        unlabelled = time.monotonic() - began
        # A workload is taken; its pods are refused until the webhook is back. What runs is limited as ever.
        cluster.create(_deployment("waiting", images.app))
        failed = "--field-selector=involvedObject.kind=ReplicaSet,reason=FailedCreate"
        eventually("its pod is refused", lambda: cluster.get("events", failed)["items"])
        assert cluster.get("pods", "-l", "app=waiting")["items"] == []
        assert node.programs_of(pods["limited"].uid) == before
        began = time.monotonic()
    eventually("taken", lambda: not create(), 30)
    back = time.monotonic() - began
    eventually("the workload's pod", lambda: cluster.get("pods", "-l", "app=waiting")["items"], 60)
    workload = time.monotonic() - began
    (made,) = cluster.get("pods", "-l", "app=waiting")["items"]
    assert "podrate.io/limit" in made["metadata"]["annotations"]
    _both(cluster)
    cluster.kubectl("delete", "deployment", "waiting", "--wait=false")
    cluster.delete("no-webhook")
    figures["no webhook: an unlabelled pod Ready, s"] = unlabelled
    figures["webhook scaled up to a limited pod taken, s"] = back
    figures["webhook scaled up to a workload's limited pod, s"] = workload
    fault(
        "both replicas are gone",
        "a pod without a label starts as ever; one with a label is refused with a line that names the webhook, "
        "a workload's is made once it is back; what runs stays limited",
        f"back {back:.1f} s after the replicas were asked for, a workload's pod after {workload:.1f} s",
    )


def test_the_API_server_is_killed_during_reviews(  # noqa: N802
    cluster: Cluster, api: Api, machine: Machine, figures: Figures, fault: Fault
) -> None:
    before = {name: _restarts(cluster, name) for name in _both(cluster)}
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(1)
        machine.kill("kube-apiserver")
        ready = ("get", "--raw", "/readyz")
        eventually("ready", lambda: cluster.kubectl(*ready, check=False).stdout == "ok", 60)
        back = reviews.now()
        time.sleep(3)
    away = outage(reviews)
    assert away > 0, "it was away"
    assert all(each.made < back for each in reviews.failures)
    assert {name: _restarts(cluster, name) for name in _both(cluster)} == before
    figures["API server killed, from the first failed request to the last, s"] = away
    fault(
        "the API server is killed during reviews",
        "requests fail while it is away; the first that it takes is reviewed again, by the same replicas",
        f"away for {away:.1f} s; no review failed after it was ready",
    )


def test_the_certificates_Secret_is_deleted(cluster: Cluster, api: Api, fault: Fault) -> None:  # noqa: N802
    before = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["data"]
    owned = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["metadata"]
    with load(api, RATE, NAMESPACE) as reviews:
        time.sleep(1)
        cluster.kubectl("-n", SYSTEM, "delete", "secret", f"{RELEASE}-tls")
        began = time.monotonic()
        after = eventually("a Secret again", lambda: secret(cluster), 10)
        took = time.monotonic() - began
        assert after["tls.crt"] != before["tls.crt"]
        # Whom the API server trusted it goes on to trust, until the new certificate is served everywhere.
        assert base64.b64decode(after["ca.crt"]).endswith(base64.b64decode(before["ca.crt"]))
        eventually("both are trusted", lambda: bundles(cluster) == {after["ca.crt"]}, 5)
        time.sleep(3)
    assert reviews.failures == []
    assert reviews.done > 3 * RATE
    assert len(replicas(cluster)) == 2
    made = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["metadata"]
    assert made["annotations"] == owned["annotations"]  # so helm will remove it
    owner = "app.kubernetes.io/managed-by"
    assert made["labels"] == {owner: owned["labels"][owner]}  # and may upgrade it: what else there is, is the chart's
    fault(
        "the certificate's Secret is deleted",
        "it is made anew, with another authority; both are trusted until all replicas serve the new leaf",
        f"there again after {took:.1f} s; no review failed",
    )


def test_the_caBundle_is_emptied_by_hand(cluster: Cluster, api: Api, figures: Figures, fault: Fault) -> None:  # noqa: N802
    right = bundles(cluster)
    entries = range(len(cluster.get("mutatingwebhookconfiguration", RELEASE)["webhooks"]))
    took = []
    for value in ("", "eA=="):  # nothing, and what is no certificate
        change = [{"op": "replace", "path": f"/webhooks/{it}/clientConfig/caBundle", "value": value} for it in entries]
        with load(api, RATE, NAMESPACE) as reviews:
            time.sleep(1)
            began = time.monotonic()
            cluster.kubectl("patch", "mutatingwebhookconfiguration", RELEASE, "--type=json", "-p", json.dumps(change))
            eventually("repaired", lambda: bundles(cluster) == right, 5, pause=0)
            took.append(time.monotonic() - began)
            time.sleep(1)
            back = reviews.now()
            time.sleep(1)
        assert outage(reviews) < 2
        assert all(each.made < back for each in reviews.failures)
    figures["caBundle reset to seen repaired, s"] = max(took)
    fault(
        "the caBundle is emptied, or reset, by hand",
        "the webhook puts it back",
        f"within {max(took):.1f} s, kubectl's own time included",
    )


@contextlib.contextmanager
def _no_replica(cluster: Cluster) -> Iterator[None]:
    """Until the end of the block; it does not wait for those that come then."""
    scale = ("-n", SYSTEM, "scale", f"deployment/{RELEASE}")
    cluster.kubectl(*scale, "--replicas=0")
    try:
        cluster.kubectl("delete", *PODS, "--grace-period=0", "--force")
        eventually("no replica", lambda: not cluster.get(*PODS)["items"], 30)
        yield
    finally:
        cluster.kubectl(*scale, "--replicas=2")


def test_the_view_of_the_Namespaces_is_cut(  # noqa: N802
    cluster: Cluster, node: Node, machine: Machine, images: Images, figures: Figures, fault: Fault
) -> None:
    """Both replicas lose the API server without a word, as by a firewall; it goes on to send them reviews."""
    cluster.create(_namespace("stale", "10M"))
    ask = json.dumps(application("asks", images.app, ASLEEP))

    def given(namespace: str) -> str:
        command = ("-n", namespace, "create", "-f", "-", "--dry-run=server", "-o", "yaml")
        done = cluster.kubectl(*command, stdin=ask, check=False)
        return done.stdout + done.stderr

    here = [pod(cluster, name, SYSTEM) for name in _both(cluster)]

    def ages() -> list[float]:
        return [node.scrape(f"{each.address}:8080")["podrate_namespaces_age_seconds"] for each in here]

    def watch_ended() -> bool:
        since = f"--since={math.ceil(time.monotonic() - began)}s"
        logs = (cluster.logs(each.name, "webhook", "-n", SYSTEM, since) for each in here)
        return all(any('"watch ended"' in line for line in log) for log in logs)

    eventually("the default holds", lambda: '"egress":10000000' in given("stale"))
    address = cluster.get("-n", "default", "service", "kubernetes")["spec"]["clusterIP"]
    with contextlib.ExitStack() as cuts:
        for each in here:
            cuts.enter_context(_cut(machine, node.process(each.uid, "-m webhook"), address))
        began = time.monotonic()
        cluster.kubectl("label", "namespace", "stale", "podrate.io/bandwidth=20M", "--overwrite")
        asked = time.monotonic()
        assert '"egress":10000000' in given("stale")
        took = time.monotonic() - asked
        cluster.create(_namespace("younger", "10M"))
        asked = time.monotonic()
        unknown = given("younger")
        assert "podrate.io/limit" not in unknown
        print(unknown)
        assert took + 1 < time.monotonic() - asked  # of this one the API server is asked, for 2 s
        eventually("both notice", watch_ended, 40, pause=1)
        noticed = time.monotonic() - began
        oldest = min(ages())
        assert oldest > noticed - 5
        assert '"egress":10000000' in given("stale")
        assert len(replicas(cluster)) == 2
    began = time.monotonic()
    eventually("both are up to date", lambda: max(ages()) < 5, 30)
    took = time.monotonic() - began
    assert '"egress":20000000' in given("stale")
    assert '"egress":10000000' in given("younger")
    cluster.kubectl("delete", "namespace", "stale", "younger", "--wait=false")
    figures["API server cut off, until the webhook notices, s"] = noticed
    figures["API server back, until the webhook knows the Namespaces, s"] = took
    fault(
        "the webhook's view of the Namespaces is cut",
        "the last known labels hold, the metric of their age grows; a pod of a Namespace that is younger is refused",
        f"noticed after {noticed:.0f} s; up to date {took:.1f} s after the API server could be reached",
    )


@contextlib.contextmanager
def _cut(machine: Machine, process: int | None, address: str) -> Iterator[None]:
    """Nothing passes between the network of a process and an address, until the end of the block."""
    enter = ("nsenter", "--target", str(process), "--net", "nft")
    drop = """table ip fault {
        chain input { type filter hook input priority 0; ip saddr ADDRESS drop; }
        chain output { type filter hook output priority 0; ip daddr ADDRESS drop; }
    }"""
    machine.run(*enter, "-f", "-", stdin=drop.replace("ADDRESS", address))
    try:
        yield
    finally:
        machine.run(*enter, "delete", "table", "ip", "fault")


def _namespace(name: str, bandwidth: str) -> dict[str, object]:
    labels = {"podrate.io/bandwidth": bandwidth, "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _deployment(name: str, image: str) -> dict[str, object]:
    template = application(name, image, ASLEEP, LIMITED | {"app": name})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {k: template[k] for k in ("metadata", "spec")},
        },
    }


def _kill(cluster: Cluster, node: Node, name: str) -> None:
    """SIGKILL to a replica; returns when it is ready again."""
    before = _restarts(cluster, name)
    node.execute("kill", "-KILL", str(node.process(pod(cluster, name, SYSTEM).uid, "-m webhook")))
    eventually("it is started again", lambda: _restarts(cluster, name) > before, 30)
    _both(cluster)


def _both(cluster: Cluster) -> list[str]:
    """The two replicas, once they are ready."""
    eventually("two replicas", lambda: len(replicas(cluster)) == 2, 60)
    return sorted(replicas(cluster))


def _restarts(cluster: Cluster, name: str) -> int:
    (status,) = cluster.get("-n", SYSTEM, "pod", name)["status"]["containerStatuses"]
    restarts: int = status["restartCount"]
    return restarts
