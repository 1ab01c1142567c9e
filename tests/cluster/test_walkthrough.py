"""The documents' commands, typed by a reader with a cluster: after everything else, for they install and uninstall.

Each document is read in a namespace of its own, in a directory with the charts, the examples, and the values.yaml that
docs/install.md says to write.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import Block, blocks, check, typed

from . import injected
from .conftest import CHART, RELEASE, SYSTEM
from .images import ROOT, Images
from .kubectl import Cluster, application
from .provision import SCRIPT, Provision

INSTALL = "docs/install.md"  # read last: it ends with the release's end
NGINX = "docker.io/library/nginx:1.28-alpine"  # that of the examples
BLOCKS = sorted(blocks("cluster"), key=lambda block: block.path == INSTALL)
VALUES = [each for each in blocks() if each.language == "yaml" and each.text.startswith(("webhook:", "loader:"))]
PATIENCE = 30  # seconds for what is shown to come true: a loader's next look, a pod's end


class Reader:
    """Somebody at a shell, in `directory`, whose kubectl is in a namespace of the cluster."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self.cluster = Cluster(cluster.environment, namespace)
        cluster.kubectl("create", "namespace", namespace)
        kubeconfig = directory / f"{namespace}.kubeconfig"
        kubeconfig.write_text(cluster.run("kubectl", "config", "view", "--raw", "--minify", "--flatten").stdout)
        kubeconfig.chmod(0o600)
        self._directory = directory
        self._environment = cluster.environment | {"KUBECONFIG": str(kubeconfig)}
        assert self(f"kubectl config set-context --current --namespace={namespace}").returncode == 0

    def __call__(self, text: str) -> subprocess.CompletedProcess[str]:
        """Type a command; after an installation take a breath, as people do."""
        done = typed(text, self._environment, 180, cwd=self._directory)
        if "helm upgrade --install" in text and done.returncode == 0:
            self.cluster.wait_reviewed()
        return done


@pytest.fixture(scope="module")
def checkout(image_values: dict[str, Any], provided: Provision) -> Iterator[Path]:
    """The reader's directory; the cluster has the images that it will be asked for."""
    with tempfile.TemporaryDirectory() as path:
        directory = Path(path)
        for each in ("charts", "examples"):
            (directory / each).symlink_to(ROOT / each)
        (directory / "values.yaml").write_text(yaml.safe_dump(image_values))
        if "CLUSTER_PORT" in provided.environment:  # ours, which can pull nothing
            tag = ["ctr", "--namespace", "k8s.io", "images", "tag", "--force", provided.images.app, NGINX]
            subprocess.run([SCRIPT, "exec", *tag], env=provided.environment, capture_output=True, check=True)
        yield directory


@pytest.fixture(scope="module")
def reader(cluster: Cluster, checkout: Path, provided: Provision, images: Images) -> Iterator[Callable[[str], Reader]]:
    """Who reads a document; what it takes for granted is there."""
    assert cluster.run("helm", "list", "-n", SYSTEM, "-q").stdout == "", "it is the documents that install podrate"
    readers: dict[str, Reader] = {}

    def of(document: str) -> Reader:
        if document not in readers:
            reader = readers[document] = Reader(cluster, f"docs-{len(readers)}", checkout)
            _prepare(reader, document, images)
        return readers[document]

    yield of
    if not provided.disposable:
        cluster.run("helm", "uninstall", RELEASE, "-n", SYSTEM, "--wait", "--ignore-not-found")
        cluster.kubectl(
            "delete", "namespace", "--ignore-not-found", SYSTEM, *(r.cluster.namespace for r in readers.values())
        )


def _prepare(reader: Reader, document: str, images: Images) -> None:
    installations = [each for each in BLOCKS if "helm upgrade --install" in each.text]
    installed = reader(f"helm status {RELEASE} --namespace {SYSTEM}").returncode == 0
    if not installed and document not in {each.path for each in installations}:
        check(installations[0], reader)
    if document == "docs/troubleshooting.md":
        labels = {"podrate.io/bandwidth": "10M"}
        limited = application("limited", images.app, ["sleep", "infinity"], labels)
        reader.cluster.create(limited, injected.astray(reader.cluster, images.app, "web"))
        reader.cluster.wait_ready("limited")


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_reader_sees_what_is_shown(block: Block, reader: Callable[[str], Reader]) -> None:
    check(block, reader(block.path), PATIENCE)


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_the_chart_takes_the_values_that_are_shown(cluster: Cluster, block: Block) -> None:
    cluster.run("helm", "template", RELEASE, str(CHART), "--kube-version", "1.36", "--values", "-", stdin=block.text)
