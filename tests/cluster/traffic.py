"""iperf3 between pods, as the receiver saw it."""

import json
from typing import Any, NamedTuple

from .kubectl import Cluster

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
    command = ["iperf3", "-c", server, "-p", str(port), "-t", str(seconds), "-O", str(omit), "-i", "0.1", "-J"]
    command += ["-R"] if direction == INGRESS else ["--get-server-output"]
    output = cluster.execute(pod, *command, timeout=seconds + omit + 30, check=False)
    report: dict[str, Any] = json.loads(output)
    assert "error" not in report, f"{' '.join(command)} in {pod}: {report['error']}"
    receiver = report if direction == INGRESS else report["server_output_json"]
    intervals = [each["sum"] for each in receiver["intervals"] if not each["sum"]["omitted"]]
    return Flow(
        goodput=report["end"]["sum_received"]["bits_per_second"],
        intervals=[(each["start"], each["end"], each["bytes"] * 8) for each in intervals],
    )
