"""Where the cluster under test comes from: KUBECONFIG, or the script `cluster` beside this file."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .images import RECIPES, Images, build, save

SCRIPT = Path(__file__).with_name("cluster")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
HOME = Path(os.environ.get("CLUSTER_HOME") or _CACHE / "podrate-cluster")
# Beside the script's default, 16443: a cluster that somebody works with is left alone.
PORT = os.environ.get("CLUSTER_PORT", "16444")
README = "see tests/cluster/README.md"


class Unavailable(Exception):
    """There can be no cluster here; says what is missing and how to get it."""


class Provision(NamedTuple):
    """A cluster.

    environment:  variables that lead kubectl and helm to it
    images:       what it can run
    disposable:   it ends with the tests, so that nothing in it needs to be removed
    """

    environment: dict[str, str]
    images: Images
    disposable: bool


@contextmanager
def provision(say: Callable[[str], None]) -> Iterator[Provision]:
    """A cluster with the images in it; ended afterwards if it was started here. Raises Unavailable."""
    path = os.environ["PATH"]
    environment = os.environ | {"PATH": f"{path}:{HOME}/bin", "CLUSTER_HOME": str(HOME)}
    kubeconfig = os.environ.get("KUBECONFIG")  # empty counts as not set
    if not kubeconfig:
        with _own(environment | {"PATH": f"{HOME}/bin:{path}", "CLUSTER_PORT": PORT}, say) as provided:
            yield provided
        return
    for command in ("kubectl", "helm"):
        if shutil.which(command, path=environment["PATH"]) is None:
            raise Unavailable(f"KUBECONFIG is set, but there is no {command}; `{SCRIPT} build` makes one")
    if ours := _port(kubeconfig):
        environment["CLUSTER_PORT"] = ours
        yield Provision(environment, _images_into(environment), disposable=False)
        return
    references = {name: os.environ.get(f"PODRATE_{name.upper()}_IMAGE", "") for name in Images._fields}
    if missing := [f"PODRATE_{name.upper()}_IMAGE" for name, reference in references.items() if not reference]:
        raise Unavailable(f"KUBECONFIG is set, but {', '.join(missing)} must name images it can pull; {README}")
    yield Provision(environment, Images(**references), disposable=False)


@contextmanager
def _own(environment: dict[str, str], say: Callable[[str], None]) -> Iterator[Provision]:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unavailable(f"our own needs Linux and root; KUBECONFIG can name another; {README}")
    if shutil.which("go") is None and not (HOME / "bin" / "kube").exists():
        raise Unavailable(f"our own needs Go 1.21 or later to build it; KUBECONFIG can name another; {README}")
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{PORT}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"another run of these tests uses port {PORT}; CLUSTER_PORT chooses another") from None
        if not (HOME / "bin" / ".kube").exists():
            say("building a Kubernetes cluster from its sources: 10 to 15 minutes, the first time only")
        _script(environment, "down")  # a run that was killed may have left it
        _script(environment, "base-image")
        try:
            loaded = _images_into(environment, "up")
            environment["KUBECONFIG"] = str(HOME / PORT / "pki" / "admin.kubeconfig")
            yield Provision(environment, loaded, disposable=True)
        finally:
            _script(environment, "down")


def _script(environment: dict[str, str], *command: str) -> None:
    done = subprocess.run([str(SCRIPT), *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{SCRIPT} {' '.join(command)}: exit code {done.returncode}\n{done.stderr[-4000:]}"


def _port(kubeconfig: str) -> str | None:
    """The port of the cluster that the script made this kubeconfig for, if it did."""
    path = Path(kubeconfig).resolve()
    return path.parts[-3] if path.match("*/pki/admin.kubeconfig") and path.parents[2] == HOME.resolve() else None


def _images_into(environment: dict[str, str], *first: str) -> Images:
    """Build the images, and load them into the script's cluster; meanwhile the script does what comes `first`."""

    def built(name: str) -> tuple[str, Path]:
        image, reference = build(name, getattr(RECIPES, name))
        archive = Path(directory) / f"{name}.tar"
        save(image, reference, archive)
        return reference, archive

    loaded = {}
    with tempfile.TemporaryDirectory(dir=HOME) as directory, ThreadPoolExecutor() as threads:
        building = {name: threads.submit(built, name) for name in Images._fields}
        if first:
            _script(environment, *first)
        for name, each in building.items():
            loaded[name], archive = each.result()
            _script(environment, "load", str(archive))
    return Images(**loaded)
