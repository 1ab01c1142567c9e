"""The cluster, the release in it, and the pods that more than one test looks at."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import pytest

from webhook.api import Api

from . import node as node_pod
from .images import ROOT, Images
from .kubectl import Cluster, application
from .machine import Machine
from .node import Node
from .provision import Provision, Unavailable, provision
from .traffic import SERVERS

CHART = ROOT / "charts" / "podrate"
RELEASE = "podrate"
SYSTEM = "podrate-system"
NAMESPACE = "podrate-test"
FIGURES = ROOT / "build" / "cluster" / "figures.json"

Figures = dict[str, float]
_figures = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def provided(request: pytest.FixtureRequest) -> Iterator[Provision]:
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{line}", flush=True)

    try:
        with provision(say) as provided:
            yield provided
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no cluster: {reason}", pytrace=False)  # in CI nothing is skipped
        pytest.skip(f"no cluster: {reason}")


@pytest.fixture(scope="session")
def images(provided: Provision) -> Images:
    return provided.images


@pytest.fixture(scope="session")
def cluster(provided: Provision) -> Iterator[Cluster]:
    """kubectl and helm, in a namespace for the tests' pods."""
    cluster = Cluster(provided.environment, NAMESPACE)
    _namespace(cluster, NAMESPACE, "privileged")
    yield cluster
    if not provided.disposable:
        cluster.kubectl("delete", "namespace", NAMESPACE)


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Api:
    """The API server, as its admin."""
    with mock.patch.dict(os.environ, KUBECONFIG=cluster.environment["KUBECONFIG"]):
        return Api()


@pytest.fixture(scope="session")
def machine(provided: Provision) -> Machine:
    """The node as a machine, where it is our own: on somebody else's we end nothing."""
    if "CLUSTER_PORT" not in provided.environment:
        pytest.skip("a fault of the node itself is tried on our own cluster only; see tests/cluster/README.md")
    return Machine(provided.environment)


@pytest.fixture(scope="session")
def image_values(images: Images) -> dict[str, Any]:
    """The chart's values that name the images."""
    parts = {}
    for part, reference in (("webhook", images.webhook), ("loader", images.loader)):
        repository, at, digest = reference.partition("@")
        if at:
            image = {"repository": repository, "digest": digest}
        else:
            repository, _, tag = reference.rpartition(":")
            image = {"repository": repository, "tag": tag}
        parts[part] = {"image": image}
    return parts


@pytest.fixture(scope="session")
def values(image_values: dict[str, Any]) -> list[str]:
    """The same as helm's options."""
    return [
        f"--set-string={part}.image.{field}={value}"
        for part, values in image_values.items()
        for field, value in values["image"].items()
    ]


@pytest.fixture(scope="session")
def release(provided: Provision, cluster: Cluster, values: list[str], figures: Figures) -> Iterator[str]:
    """The chart, installed as a user would; the one installation that all tests share."""
    _namespace(cluster, SYSTEM, "restricted")  # the webhook needs no exception
    began = time.monotonic()
    install = ["helm", "install", RELEASE, str(CHART), "-n", SYSTEM, "--wait", "--timeout", "90s"]
    try:
        cluster.run(*install, *values)
    except AssertionError as error:
        pods = cluster.kubectl("-n", SYSTEM, "describe", "pods", check=False).stdout
        logs = cluster.kubectl("-n", SYSTEM, "logs", "deployment/podrate", "--all-pods", check=False).stdout
        pytest.fail(f"{error}\n{pods}\n{logs}", pytrace=False)
    figures["helm install, s"] = time.monotonic() - began
    cluster.wait_reviewed()
    yield RELEASE
    if not provided.disposable:
        cluster.run("helm", "uninstall", RELEASE, "-n", SYSTEM, "--wait", "--ignore-not-found")
        cluster.kubectl("delete", "namespace", SYSTEM)


def _namespace(cluster: Cluster, name: str, pod_security: str) -> None:
    labels = {"pod-security.kubernetes.io/enforce": pod_security}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


class Pod(NamedTuple):
    """A pod that runs."""

    name: str
    uid: str
    address: str


@pytest.fixture(scope="session")
def pods(cluster: Cluster, images: Images, release: str) -> dict[str, Pod]:  # noqa: ARG001  its webhook
    """The pods that several tests look at, all created at once on one node, all Ready. Each serves iperf3.

    node:     in the node's own network namespace, where nothing limits it
    peer:     an ordinary pod, without a limit
    limited:  a different limit in each direction
    live:     one limit for both, to be changed
    """
    labels = {
        "peer": {},
        "limited": {"podrate.io/egress": "20M", "podrate.io/ingress": "50M"},
        "live": {"podrate.io/bandwidth": "10M"},
    }
    cluster.create(node_pod.manifest(images.app))
    cluster.wait_ready(node_pod.NAME)
    beside = Node(cluster).beside
    cluster.create(*[application(name, images.app, SERVERS, each, **beside) for name, each in labels.items()])
    cluster.wait_ready(*labels)
    return {each: pod(cluster, each) for each in (node_pod.NAME, *labels)}


def pod(cluster: Cluster, name: str, namespace: str = NAMESPACE) -> Pod:
    """What the API server says of a pod; one that does not run yet may have no address, and then it is empty."""
    it = cluster.get("-n", namespace, "pod", name)
    return Pod(name, it["metadata"]["uid"], it["status"].get("podIP", ""))


@pytest.fixture(scope="session")
def node(cluster: Cluster, pods: dict[str, Pod]) -> Node:  # noqa: ARG001  one of them looks at it
    return Node(cluster)


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    """What was measured: printed at the end of the run, and written to build/cluster/figures.json."""
    return request.config.stash.setdefault(_figures, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    figures = config.stash.get(_figures, {})
    if not figures:
        return
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    terminalreporter.section("cluster: what was measured")
    for what, value in figures.items():
        terminalreporter.write_line(f"{value:10.3f}  {what}")
