"""Our images, built by buildah from the working tree, and a name for each that changes with its content."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BASE_IMAGE = os.environ.get("PODRATE_BASE_IMAGE", "localhost/base:12")


class Images(NamedTuple):
    """References of the two images under test, and of the one that plays the applications."""

    webhook: str
    loader: str
    app: str


# Dockerfile and context of each, below the repository's root.
RECIPES = Images(
    webhook="Dockerfile.webhook .",
    loader="Dockerfile.loader .",
    app="tests/cluster/app/Dockerfile tests/cluster/app",
)


def build(name: str, recipe: str) -> tuple[str, str]:
    """Build an image; returns its id and the reference to give it. Unchanged layers are not built again."""
    with tempfile.NamedTemporaryFile("r", prefix="podrate-iid-") as iid:
        # chroot: works in containers and where no cgroup controller is delegated. network host: apt and pip reach
        # what this machine reaches.
        command = ["buildah", "build", "--layers", "--isolation", "chroot", "--network", "host", "--pull=false"]
        command += ["--iidfile", iid.name, "--build-arg", f"BASE_IMAGE={BASE_IMAGE}"]
        # A name by which the layers are found next time.
        command += ["-t", f"localhost/podrate-{name}:latest", "-f", *recipe.split()]
        _run(*command)
        image = iid.read().strip().removeprefix("sha256:")
    return image, f"localhost/podrate-{name}:{image[:12]}"


def save(image: str, reference: str, archive: Path) -> None:
    """Write an image to a file that `cluster load` takes."""
    _run("buildah", "push", "--quiet", image, f"docker-archive:{archive}:{reference}")


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    output = done.stdout[-4000:] + done.stderr[-4000:]
    assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{output}"
