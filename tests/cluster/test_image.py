"""The two images: what is in them, what a node pulls for them, and what they may write."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from loader import __version__
from tests import dependencies

from .conftest import Figures, Pod
from .images import ROOT, Images
from .kubectl import Cluster
from .node import Node
from .provision import Provision

IMAGES = ("loader", "webhook")
LARGEST = {"loader": 50e6, "webhook": 120e6}  # bytes, unpacked


def _buildah(*arguments: str) -> str:
    return subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def _mounted(image: str) -> Iterator[Path]:
    container = _buildah("from", "--pull=never", image)
    try:
        yield Path(_buildah("mount", container))
    finally:
        _buildah("rm", container)


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest, provided: Provision, images: Images) -> tuple[str, str]:
    """Its name among ours, and its id, by which buildah knows it; its reference is the cluster's."""
    if not provided.disposable and "CLUSTER_PORT" not in provided.environment:
        pytest.skip("somebody else's registry: the image is not here to be looked at")
    return request.param, getattr(images, request.param).rpartition(":")[2]


def test_they_are_small_and_declare_what_is_in_them(image: tuple[str, str], figures: Figures) -> None:
    name, id_ = image
    with _mounted(id_) as root:
        size = int(subprocess.run(["du", "-sb", root], capture_output=True, check=True).stdout.split()[0])
        programs = {path.name for directory in ("bin", "sbin") for path in (root / "usr" / directory).glob("*")}
        privileged = [path for path in root.rglob("*") if path.is_file() and path.stat().st_mode & 0o6000]
        packages = {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()}
        undocumented = {each for each in packages if not (root / f"usr/share/doc/{each}/copyright").is_file()}
        assert "Version: " in (root / "var/lib/dpkg/status.d/libc6").read_text()
    figures[f"{name}'s image, MB"] = size / 1e6
    assert size < LARGEST[name]
    assert programs == {"python3", "python3.11"} | ({"podrate"} if name == "loader" else set())
    assert privileged == []
    libraries = {"libbpf1", "libnl-route-3-200"} if name == "loader" else set()
    assert packages >= {"libc6", "libpython3.11-stdlib", *libraries}
    assert undocumented == set()


def test_their_labels(image: tuple[str, str]) -> None:
    name, id_ = image
    configuration = json.loads(_buildah("inspect", "--type", "image", id_))["OCIv1"]["config"]
    labels = {key.removeprefix("org.opencontainers.image."): it for key, it in configuration["Labels"].items()}
    assert (labels["title"], labels["version"]) == (f"podrate {name}", __version__)
    assert labels["licenses"]
    assert labels["description"]
    # In a container only root's capabilities are in effect.
    assert configuration.get("User", "") == ("65532:65532" if name == "webhook" else "")


def test_the_webhooks_packages_are_those_that_are_pinned(image: tuple[str, str]) -> None:
    """Each at its pin, none beside, none missing: docs/dependencies.md."""
    name, id_ = image
    with _mounted(id_) as root:
        installed = dict(path.stem.rsplit("-", 1) for path in root.rglob("*.dist-info"))
    row = rf"^\| ([\w.-]+)==(\S+) \| {re.escape(dependencies.IMAGE)} \|"
    pinned = re.findall(row, dependencies.DOCUMENT.read_text(), re.MULTILINE) if name == "webhook" else []
    assert {canonicalize_name(each): version for each, version in installed.items()} == {
        canonicalize_name(each): version for each, version in pinned
    }


def test_their_dockerfiles_name_no_architecture() -> None:
    for text in ((ROOT / f"Dockerfile.{name}").read_text() for name in IMAGES):
        assert not re.search(r"x86|amd64|arm|aarch64|linux-gnu|--platform", text)


def test_its_root_is_read_only(pods: dict[str, Pod], node: Node) -> None:
    mounts = node.execute("cat", f"/proc/{node.loader(pods['limited'].uid)}/mounts").splitlines()
    (options,) = {fields[3] for line in mounts if (fields := line.split())[1] == "/"}
    assert "ro" in options.split(",")


def test_nobody_enters_it(cluster: Cluster, pods: dict[str, Pod]) -> None:  # noqa: ARG001  one of them
    """It has the capabilities to take the limit off any pod of the node."""
    for command in (
        ["exec", "limited", "-c", "podrate", "--", "podrate", "status"],
        ["attach", "limited", "-c", "podrate"],
    ):
        done = cluster.kubectl(*command, check=False)
        assert done.returncode != 0
        assert 'admission webhook "loader.podrate.io" denied the request: container: "podrate": ' in done.stderr
    assert cluster.execute("limited", "echo", "other containers") == "other containers\n"


def test_what_it_takes_while_it_waits(pods: dict[str, Pod], node: Node, figures: Figures) -> None:
    """As the kernel counts it in the container. Here because only here the pages are those of an image."""
    process = node.loader(pods["limited"].uid)
    rollup = node.execute("cat", f"/proc/{process}/smaps_rollup")
    pss = {line.split()[0]: int(line.split()[1]) / 1e3 for line in rollup.splitlines()[1:]}
    figures["loader's PSS, one of two on the node, MB"] = pss["Pss:"]
    figures["loader's memory of its own, MB"] = pss["Anonymous:"]
    assert pss["Pss:"] < 7
