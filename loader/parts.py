"""What a shaper is made of, and which of it a kernel has. enum podrate_part of bpf/src/podrate.h."""

from loader import bpf

EXCHANGE, PACING, RTT, WINDOW = 1, 2, 4, 8
ALL = EXCHANGE | PACING | RTT | WINDOW

# By part: its name, and what is done without it.
PARTS = {
    EXCHANGE: ("exchange", "buckets are charged without compare-and-exchange (needs Linux 5.12)"),
    PACING: ("pacing", "TCP senders are not paced, only policed"),
    RTT: ("rtt", "paces are set at each packet, not at each round trip (needs Linux 5.3)"),
    WINDOW: ("window", "receive windows are not clamped, what arrives is only policed (needs Linux 5.11)"),
}


def available() -> int:
    """The parts that can be loaded here. What shows only in use, the programs note themselves: see Buckets.parts."""
    return ALL if bpf.has_compare_and_exchange() else ALL & ~EXCHANGE
