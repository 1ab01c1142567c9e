"""A pod's TCP beside its own UDP flood at twice the limit: what is left of each, and what the flood is told."""

import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import flood, iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab, Namespace
from bench.point import UDP_LOAD
from bench.shapers import SHAPERS

FLOWS = 4
MARGIN = 2  # seconds, that the flood lasts longer


@dataclass(frozen=True)
class Beside:
    """One shaper: payload that arrived of TCP and of UDP, to the limit; datagrams sent, and refused with EPERM."""

    tcp_ratio: float
    udp_ratio: float
    sent: int
    refused: int


def measure(rate: int, shaper: str, seconds: int) -> Beside:
    """FLOWS flows of TCP in a pod limited to `rate` bits/s on egress, and a flood in the same pod, for `seconds`."""
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        pod = stack.enter_context(Cgroup("bench", "pod"))
        app = pod.child("app")
        stack.enter_context(SHAPERS[shaper](lab, pod, "egress", rate))
        # -I -S: nothing but the standard library, and a start in 10 ms. It begins first and ends last: TCP may take
        # a while to connect beside it.
        script = [sys.executable, "-I", "-S", str(Path(flood.__file__))]
        flooding = lab.pod.popen([*script, lab.peer.v4, str(UDP_LOAD * rate), str(seconds + MARGIN)], app)
        start, before = time.monotonic(), _for_nobody(lab.peer)
        transfer = iperf.run(lab, Traffic("egress", flows=FLOWS, seconds=seconds), app)
        end, after = time.monotonic(), _for_nobody(lab.peer)
        output, _ = flooding.communicate(timeout=30)
        sent, refused = map(int, output.split())
        udp = (after - before) * flood.SIZE * 8 / (end - start)
        return Beside(transfer.goodput / rate, udp / rate, sent, refused)


def _for_nobody(namespace: Namespace) -> int:
    """UDP datagrams that arrived at a port where nobody listens."""
    lines = [line.split() for line in namespace.run(["cat", "/proc/net/snmp"]).splitlines() if line.startswith("Udp:")]
    return int(dict(zip(*lines, strict=True))["NoPorts"])
