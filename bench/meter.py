"""What arrives at a device over time, counted in the kernel by meter.bpf.c.

with Meter(lab.peer) as meter:
    ...
    print(meter.arrived())
"""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from bench.compiled import bpf_object
from bench.lab import Namespace

STEP = 0.01  # seconds
_STEP_NS, _STEPS = 10_000_000, 65536  # meter.bpf.c
# linux/if_packet.h, linux/if_ether.h, asm-generic/socket.h
_SOL_PACKET, _PACKET_IGNORE_OUTGOING, _ETH_P_ALL, _SO_ATTACH_BPF = 263, 23, 3, 50
_WORD = struct.Struct("=Q")


class Meter:
    """A context manager: counts what the device of `namespace` receives while it is entered."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._held = ExitStack()

    def __enter__(self) -> Self:
        from loader import bpf  # loads libbpf

        with ExitStack() as stack:
            programs = stack.enter_context(bpf.ObjectSpec(str(bpf_object("meter"))).load())
            self._map = programs.map("arrived")
            with ThreadPoolExecutor(1) as inside:
                tap = stack.enter_context(inside.submit(self._tap).result())
            tap.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            tap.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_BPF, programs.program("meter").fd)
            tap.bind((self._namespace.device, _ETH_P_ALL))
            self._begun = time.monotonic_ns() // _STEP_NS
            self._held = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._held.close()

    def _tap(self) -> socket.socket:
        self._namespace.enter()
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # protocol 0: nothing, until it is bound

    def arrived(self) -> list[int]:
        """Bytes as on an Ethernet wire, headers included, of each STEP since the meter was entered."""
        steps = range(self._begun, time.monotonic_ns() // _STEP_NS)
        return [_WORD.unpack(self._map[step % _STEPS])[0] for step in steps]
