"""A cluster by its kubeconfig: kubectl, helm, and what the tests ask of both."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

Manifest = dict[str, Any]


class Cluster:
    """kubectl and helm, found on PATH, against one cluster and by default in one namespace of it."""

    def __init__(self, environment: dict[str, str], namespace: str) -> None:
        self.environment = environment
        self.namespace = namespace

    def run(
        self, *command: str, stdin: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; unless it may fail, its failure shows what it wrote to standard error."""
        done = subprocess.run(
            command, input=stdin, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def kubectl(
        self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """kubectl in the tests' namespace; `-n` in the arguments wins."""
        return self.run("kubectl", "-n", self.namespace, *arguments, stdin=stdin, check=check, timeout=timeout)

    def get(self, *arguments: str) -> Manifest:
        """`kubectl get ARGUMENTS`, parsed."""
        parsed: Manifest = json.loads(self.kubectl("get", *arguments, "-o", "json").stdout)
        return parsed

    def create(self, *manifests: Manifest) -> None:
        """Create all of them in one request after the other, and wait for none."""
        self.kubectl("create", "-f", "-", stdin=_list(manifests))

    def wait_ready(self, *pods: str, timeout: int = 90) -> None:
        """Wait until every pod is Ready; if one is not in time, say what it says of itself."""
        names = [f"pod/{pod}" for pod in pods]
        wait = ("wait", "--for=condition=Ready", f"--timeout={timeout}s")
        waited = self.kubectl(*wait, *names, check=False, timeout=timeout + 30)
        if waited.returncode != 0:
            described = self.kubectl("describe", *names, check=False).stdout
            raise AssertionError(f"{waited.stderr}\n{described}")

    def wait_reviewed(self) -> None:
        """Wait until the API server reaches the webhook: kube-proxy leads its Service there a while after it is up."""
        asks = ("run", "asks", "--image=any", "--labels=podrate.io/bandwidth=10M", "--dry-run=server")
        eventually("a review", lambda: self.kubectl(*asks, check=False).returncode == 0)

    def delete(self, *pods: str) -> None:
        """Delete pods, and don't wait for their end: that takes seconds."""
        self.kubectl("delete", "pod", "--wait=false", "--ignore-not-found", *pods)

    def execute(self, pod: str, *command: str, timeout: float = 60, check: bool = True) -> str:
        """Run a command in a pod's application container; returns its standard output."""
        return self.kubectl("exec", pod, "-c", "app", "--", *command, timeout=timeout, check=check).stdout

    def logs(self, pod: str, container: str, *options: str) -> list[str]:
        """The lines that a container logged."""
        return self.kubectl("logs", pod, "-c", container, *options).stdout.splitlines()


def application(
    name: str,
    image: str,
    command: Iterable[str],
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Manifest:
    """A pod with one container `app`, as a user would write it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": image, "command": list(command)}],
            **spec,
        },
    }


def eventually(what: str, condition: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> Any:
    """The first true value of `condition`; fails after `seconds` without one.

    By default that is patience with a busy machine, and no promise of podrate's.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)
    return value


def _list(manifests: Iterable[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
