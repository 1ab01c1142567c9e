"""The loader's image: what a node pulls for it, and what it may write."""

import subprocess

from .conftest import Figures, Pod
from .images import BASE_IMAGE, Images
from .kubectl import Cluster
from .node import Node
from .provision import Provision


def _size(image: str) -> int:
    """Bytes of an image's files, unpacked."""

    def buildah(*arguments: str) -> str:
        return subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    container = buildah("from", "--pull=never", image)
    try:
        return int(
            subprocess.run(["du", "-sb", buildah("mount", container)], capture_output=True, check=True).stdout.split()[
                0
            ]
        )
    finally:
        buildah("rm", container)


def test_it_adds_little_to_its_base(provided: Provision, images: Images, figures: Figures) -> None:
    if not provided.disposable and "CLUSTER_PORT" not in provided.environment:
        return  # somebody else's registry: the image is not here to be looked at
    image = images.loader.rpartition(":")[2]  # its id, by which buildah knows it; the name is the cluster's
    added = (_size(image) - _size(BASE_IMAGE)) / 1e6
    figures["loader's image beyond its base, MB"] = added
    assert added < 60


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
