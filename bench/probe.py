"""Request-response probes of a lab: the latency that a limit costs its pod, and what is left for its neighbours.

with probe.Server(lab.peer) as server, probe.Probe(lab.pod, server, seconds=5, cgroup=cgroup) as inside:
    ...
    times = inside.wait()
"""

from types import TracebackType
from typing import Self

from bench.cgroup import Cgroup
from bench.command import LabError, last_line, stop
from bench.compiled import program
from bench.lab import Namespace


class Server:
    """The answering end, in `namespace`: a context manager. Its `port` is the kernel's choice."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def __enter__(self) -> Self:
        self._process = self._namespace.popen([program("echo"), "serve"])
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line.strip().isdigit():
            raise LabError(f"echo server: {last_line(self._process.communicate()[1])}")
        self.address, self.port = self._namespace.v4, int(line)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        stop(self._process)


class Probe:
    """The asking end, in `namespace` and `cgroup`: it asks every `interval` seconds for `seconds`."""

    def __init__(
        self, namespace: Namespace, server: Server, seconds: float, cgroup: Cgroup | None = None, interval: float = 0.01
    ) -> None:
        self._namespace = namespace
        self._cgroup = cgroup
        self._seconds = seconds
        self._ask = [str(program("echo")), "ask", server.address, str(server.port), str(seconds), str(interval)]

    def __enter__(self) -> Self:
        self._process = self._namespace.popen(self._ask, self._cgroup)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        stop(self._process)

    def wait(self) -> list[float]:
        """Seconds from each request to its answer. Raises LabError when it could not ask."""
        output, errors = self._process.communicate(timeout=self._seconds + 15)
        if self._process.returncode:
            raise LabError(f"echo client: {last_line(errors)}")
        return [float(line) / 1e6 for line in output.split()]
