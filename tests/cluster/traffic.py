"""iperf3 between pods, as the receiver saw it."""

import json
import shlex
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from .kubectl import Cluster, eventually

EGRESS, INGRESS = "egress", "ingress"
PORTS = (5201, 5202, 5203)  # an iperf3 server serves one client at a time

# One server a port; -J and -i, so that the client gets the server's intervals as fine as its own.
SERVERS = (
    "sh",
    "-c",
    "".join(f"iperf3 -s -J -i 0.1 -p {port} >/dev/null & " for port in PORTS) + "exec sleep infinity",
)


class Flow(NamedTuple):
    """What arrived: goodput in bit/s over the whole time, and (begin, end, bits) of each tenth of a second."""

    goodput: float
    intervals: list[tuple[float, float, float]]

    def between(self, begin: float, end: float) -> float:
        """The goodput from `begin` to `end`, in seconds from the start: bit/s."""
        return _goodput([each for each in self.intervals if begin <= each[0] and each[1] <= end])

    def highest(self, intervals: int) -> float:
        """The highest goodput of so many intervals in a row, in bit/s."""
        windows = (self.intervals[i : i + intervals] for i in range(len(self.intervals) - intervals + 1))
        return max(_goodput(window) for window in windows)


def _goodput(intervals: list[tuple[float, float, float]]) -> float:
    return sum(bits for _, _, bits in intervals) / (intervals[-1][1] - intervals[0][0])


def iperf3(
    cluster: Cluster, pod: str, direction: str, server: str, seconds: int = 4, omit: int = 1, port: int = PORTS[0]
) -> Flow:
    """One TCP flow between a pod (the client) and a server's address, in the pod's egress or ingress direction.

    The first `omit` seconds count for nothing.
    """
    command = _command(direction, server, seconds, omit, port)
    return _flow(direction, cluster.execute(pod, *command, timeout=seconds + omit + 30, check=False))


def begin(
    cluster: Cluster, pod: str, direction: str, server: str, seconds: int = 4, omit: int = 1, port: int = PORTS[0]
) -> Callable[[], Flow]:
    """As iperf3, but it runs in the pod by itself, and needs no kubelet meanwhile; returns what fetches the result."""
    command = shlex.join(_command(direction, server, seconds, omit, port))
    file = f"/tmp/flow-{time.monotonic_ns()}"
    script = (
        f"setsid sh -c {shlex.quote(f'{command} >{file}.part; mv {file}.part {file}')} </dev/null >/dev/null 2>&1 &"
    )
    cluster.execute(pod, "sh", "-c", script)

    def result() -> Flow:
        read = ("cat", file)
        return _flow(direction, eventually("the flow", lambda: cluster.execute(pod, *read, check=False), seconds + 30))

    return result


def _command(direction: str, server: str, seconds: int, omit: int, port: int) -> list[str]:
    command = ["iperf3", "-c", server, "-p", str(port), "-t", str(seconds), "-O", str(omit), "-i", "0.1", "-J"]
    return command + (["-R"] if direction == INGRESS else ["--get-server-output"])


def _flow(direction: str, output: str) -> Flow:
    report: dict[str, Any] = json.loads(output)
    assert "error" not in report, report["error"]
    receiver = report if direction == INGRESS else report["server_output_json"]
    intervals = [each["sum"] for each in receiver["intervals"] if not each["sum"]["omitted"]]
    return Flow(
        goodput=report["end"]["sum_received"]["bits_per_second"],
        intervals=[(each["start"], each["end"], each["bytes"] * 8) for each in intervals],
    )
