"""The chart, rendered by the real helm, as the objects that it would make."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "podrate"
RELEASE, NAMESPACE = "podrate", "podrate-system"

Object = dict[str, Any]
Values = dict[str, Any]


class Refused(Exception):
    """helm did not render; says what it wrote."""


class Rendered:
    """What helm made of the chart.

    text:     its bytes
    objects:  what an installation makes, parsed, in its order
    tests:    what `helm test` makes
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.objects: list[Object] = []
        self.tests: list[Object] = []
        for each in yaml.safe_load_all(text):
            if each:
                hook = each["metadata"].get("annotations", {}).get("helm.sh/hook")
                (self.objects if hook is None else self.tests).append(each)

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> Object:
        (found,) = self.of(kind)
        return found

    @property
    def pod(self) -> Object:
        """The template of the webhook's pods."""
        template: Object = self.one("Deployment")["spec"]["template"]
        return template

    @property
    def container(self) -> Object:
        (container,) = self.pod["spec"]["containers"]
        assert isinstance(container, dict)
        return container


class Helm:
    """The program."""

    def __init__(self, program: Path) -> None:
        self._program = str(program)

    def run(self, *arguments: str, stdin: str = "", kubeconfig: str = "/nonexistent") -> str:
        """What it prints. Raises Refused when it fails; it can reach no cluster but that of `kubeconfig`."""
        command = [self._program, "--kubeconfig", kubeconfig, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout

    def render(self, values: Values | None = None, *options: str, release: str = RELEASE) -> Rendered:
        """The chart with `values`, and what `helm template` takes besides."""
        # Without a version, some helms take a Kubernetes for granted that is older than the chart's least.
        command = ["template", release, str(CHART), "-n", NAMESPACE, "--kube-version", "1.36", "-f", "-", *options]
        return Rendered(self.run(*command, stdin=json.dumps(values or {})))


def pods_of(objects: list[Object]) -> Iterator[Object]:
    """The metadata and spec of every pod that the objects make: templates', and pods themselves."""
    for each in objects:
        if each["kind"] == "Pod":
            yield each
        elif "template" in each.get("spec", {}):
            yield each["spec"]["template"]
