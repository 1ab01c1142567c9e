"""A real API server that calls us by the chart's entries, and us."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.webhook.admission.asking import ASKS, named
from tests.webhook.conftest import Webhook, running
from tests.webhook.control_plane import SYSTEM, ControlPlane, control_plane, obstacle

OWN = ["--self-signed", "--service=podrate", f"--namespace={SYSTEM}", "--secret=podrate-tls", "--configuration=podrate"]


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """One of our own, whose configuration and namespaces the other tests don't see."""
    if reason := obstacle():
        pytest.skip(reason)  # the shared one says so, and fails where nothing may be skipped
    with control_plane(tmp_path_factory.mktemp("plane")) as it:
        it.install("--set=kubernetesAnnotations=true")
        for name, labels in (
            ("bounded", ["team=a"]),
            ("capped", ["podrate.io/max-bandwidth=5M", "podrate.io/max-egress=2M"]),
            ("default", ["podrate.io/egress-"]),
            ("fast", ["podrate.io/bandwidth=1G"]),
            ("safe", ["pod-security.kubernetes.io/enforce=restricted"]),
        ):
            if name != "default":
                it.kubectl("create", "namespace", name)
                it.kubectl("create", "serviceaccount", "default", "-n", name)
            it.kubectl("label", "namespace", name, *labels)
        yield it


@contextlib.contextmanager
def called(plane: ControlPlane, directory: Path, *options: str) -> Iterator[Webhook]:
    """A webhook with these options, and the API server calls it and no other."""
    with running(directory, *OWN, *options, KUBECONFIG=str(plane.account())) as webhook:
        webhook.event("ready")
        before = list(plane.service.ports)
        plane.service.ports[:] = [webhook.port]
        plane.service.disconnect()
        yield webhook
        plane.service.ports[:] = before
        plane.service.disconnect()


@pytest.fixture(scope="package")
def webhook(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    with called(plane, tmp_path_factory.mktemp("webhook"), "--kubernetes-annotations") as webhook:
        yield webhook


@pytest.fixture(scope="package")
def running_pod(plane: ControlPlane, webhook: Webhook) -> str:  # noqa: ARG001  it patches
    """Not that it runs: there is no node. But it is stored."""
    plane.kubectl("create", "-f", "-", stdin=json.dumps(named("live", ASKS)))
    return "live"
