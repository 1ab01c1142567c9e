"""The node of our own cluster as its machine: what runs on it is ended and begun, past the API server."""

import subprocess

from .kubectl import eventually
from .provision import SCRIPT


class Machine:
    """`cluster exec`, in the node's namespaces."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command as root on the node; its standard output."""
        done = subprocess.run(
            [SCRIPT, "exec", *command], env=self.environment, input=stdin, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}"
        return done.stdout

    def kill(self, program: str) -> None:
        """SIGKILL to one of the node's own programs, such as kubelet; returns when another has taken its place."""
        (before,) = self._processes(program)
        self.run("kill", "-KILL", before)
        eventually(f"another {program}", lambda: [it for it in self._processes(program) if it != before], 15)

    def _processes(self, program: str) -> list[str]:
        return self.run("bash", "-c", 'pgrep --exact "$1" || true', "bash", program).split()
