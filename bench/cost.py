"""What a packet costs, by BPF_PROG_TEST_RUN: our programs against an empty one; and a limit on two CPUs at once."""

import os
import socket
import statistics
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from bandwidth.limit import MAX_RATE, Limit
from bench.command import LabError
from bench.compiled import bpf_object
from bench.lab import Lab, Namespace
from loader import bpf
from loader.bucket import EGRESS
from loader.shaper import Shaper

REPEAT = 500_000  # packets in one measurement: some 50 ms
_BITING = 1_000_000_000  # bits/s: a CPU makes a hundred times as much
_SETTLE = 0.5  # seconds until the bucket's burst and horizon are used up


@dataclass(frozen=True)
class Cost:
    """Nanoseconds a packet on so many CPUs at once, the median of the rounds: the empty program, and ours."""

    cpus: int
    empty: float
    egress: float
    ingress: float


def frame() -> bytes:
    """A full TCP segment over IPv4, as an Ethernet frame of 1514 bytes between the lab's ends."""
    addresses = socket.inet_aton("198.18.0.1") + socket.inet_aton("198.18.0.2")
    ethernet = bytes.fromhex("020000000002 020000000001 0800")
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 1500, 0, 0x4000, 64, socket.IPPROTO_TCP, 0) + addresses
    tcp = struct.pack(">HHIIBBHHH", 40000, 5201, 1, 1, 0x80, 0x10, 1000, 0, 0)
    return (ethernet + ip + tcp).ljust(1514, b"\0")


def measure(rounds: int = 7) -> list[Cost]:
    """On one CPU, and on two where there are two. The limit is 1T: nothing is dropped."""
    costs = []
    with Lab() as lab, bpf.ObjectSpec(str(bpf_object("meter"))).load() as ours, Shaper() as shaper:
        shaper.buckets.set(Limit(egress=MAX_RATE, ingress=MAX_RATE))
        loaded = {program.name: program for program in shaper.programs}
        programs = [ours.program("empty"), loaded["podrate_egress"], loaded["podrate_ingress"]]
        for cpus in range(1, len(_cpus()) + 1):
            times = _side_by_side(lab.pod, programs, cpus, rounds)
            costs.append(Cost(cpus, *(statistics.median(each) for each in times)))
    return costs


def _side_by_side(namespace: Namespace, programs: Sequence[bpf.Program], cpus: int, rounds: int) -> list[list[int]]:
    """ns a packet of each program: each round of each CPU, which all run the same one at the same time."""
    together = threading.Barrier(cpus)

    def work(cpu: int) -> list[list[int]]:
        ifindex, segment = _settle_down(namespace, cpu), frame()
        times: list[list[int]] = [[] for _ in programs]
        for _ in range(rounds):
            for program, each in zip(programs, times, strict=True):
                together.wait(30)
                verdict, ns = program.test_run(segment, ifindex, REPEAT)
                if verdict != 1:
                    raise LabError(f"{program.name} returned {verdict} for a packet within the limit")
                each.append(ns)
        return times

    with ThreadPoolExecutor(cpus) as pool:
        by_cpu = list(pool.map(work, _cpus()[:cpus]))
    return [list(chain(*each)) for each in zip(*by_cpu, strict=True)]


def most_passed(seconds: float = 1) -> float:
    """Bytes that a bucket passed to those that its limit allows, with every CPU sending as fast as it can.

    From the counters, once the burst is used up.
    """
    done = threading.Event()
    with Lab() as lab, Shaper() as shaper:
        shaper.buckets.set(Limit(egress=_BITING))
        egress = next(program for program in shaper.programs if program.name == "podrate_egress")

        def work(cpu: int) -> None:
            ifindex, segment = _settle_down(lab.pod, cpu), frame()
            while not done.is_set():
                egress.test_run(segment, ifindex, 50_000)

        with ThreadPoolExecutor(len(_cpus())) as pool:
            working = [pool.submit(work, cpu) for cpu in _cpus()]
            try:
                time.sleep(_SETTLE)
                start, before = _passed(shaper)
                time.sleep(seconds)
                end, after = _passed(shaper)
            finally:
                done.set()
            for each in working:
                each.result()
    return (after - before) * 8 / _BITING / (end - start)


def _passed(shaper: Shaper) -> tuple[float, int]:
    """The bytes that have passed, and until when they take at the limit, in seconds; both of one half millisecond, in
    which the limit was used up. Where others use the CPU that is not at every moment: then the burst is there again."""
    deadline = time.monotonic() + 10
    while (began := time.monotonic()) < deadline:
        passed, debt = shaper.buckets.counters(EGRESS).passed_bytes, shaper.buckets.pressure(EGRESS).debt_ns
        now = time.monotonic()
        if debt and now - began < 0.0005:
            return now + debt / 1e9, passed
    raise LabError("others leave us no CPU to use the limit up")


def _cpus() -> list[int]:
    """Two of ours, or one."""
    return sorted(os.sched_getaffinity(0))[:2]


def _settle_down(namespace: Namespace, cpu: int) -> int:
    """Pin this thread, and move it where there is a device that is not loopback (which is exempt); its index."""
    os.sched_setaffinity(0, {cpu})
    namespace.enter()
    return socket.if_nametoindex(namespace.device)
