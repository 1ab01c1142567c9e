"""What a guest looks at: each observation is a function that returns figures.

Nothing is judged here. What should come out, test_kernels.py says, where a failure can be read.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from operator import eq
from pathlib import Path
from typing import Any

from bandwidth.limit import ANNOTATION, Limit, encode
from bench.cgroup import Cgroup
from bench.command import Argv
from bench.lab import Lab
from demo.node import Node
from loader import bpf, parts
from loader.libbpf import lib
from loader.shaper import attached_ids
from tests.kernels.inside import guest
from tests.kernels.inside.place import RATE, Figures, Place, podrate, podrate_process


def command(place: Place) -> Figures:
    """The podrate command, as people start it; and which parts could be loaded."""
    begun = time.monotonic()
    said = podrate_process("attach", "--bandwidth", "5M", place.pod)
    took = time.monotonic() - begun
    podrate("detach", place.pod)
    return {**said._asdict(), "seconds": took, "available": parts.available()}


def tcp_egress(place: Place) -> Figures:
    with place.limited():
        return place.measure(flows=4, seconds=2)


def tcp_ingress(place: Place) -> Figures:
    """And what `status` says once both directions were in use."""
    with place.limited():
        measured = place.measure(direction="ingress", flows=2, seconds=3)
        (described,) = json.loads(podrate("status", "--sample", "0", "--json", place.pod).out)
        return {**measured, "status": described, "text": podrate("status", "--sample", "0", place.pod).out}


def udp_egress(place: Place) -> Figures:
    with place.limited():
        return place.measure(protocol="udp", rate=2 * RATE, seconds=2)


def udp_ingress(place: Place) -> Figures:
    with place.limited():
        return place.measure(protocol="udp", rate=2 * RATE, seconds=2, direction="ingress")


def ipv6(place: Place) -> Figures:
    with place.limited():
        return place.measure(family=6, flows=2, seconds=2)


def run(place: Place) -> Figures:
    """`podrate run`, from a command's first packet."""

    class Limited(Cgroup):
        def command(self, argv: Argv) -> list[str]:
            return ["podrate", "run", "--egress", "5M", "--", *map(str, argv)]

    return place.measure(Limited("none"), flows=2, seconds=2)


def live_change(place: Place) -> Figures:
    """Under traffic: `attach` to a fifth of RATE, a second one, which replaces the programs, to RATE; then `set`."""
    with place.limited("--egress", "1M"), place.flowing(flows=2) as wire:
        first, slow = attached_ids(place.pod), wire.ratio(1)
        podrate("attach", "--egress", "5M", place.pod)
        second = attached_ids(place.pod)
        time.sleep(0.5)
        replaced = wire.ratio(1)
        podrate("set", "--egress", "1M", place.pod)
        third = attached_ids(place.pod)
        time.sleep(0.5)
        return {"slow": slow * 5, "replaced": replaced, "set": wire.ratio(1) * 5, "ids": [first, second, third]}


def older_connection(place: Place) -> Figures:
    """`attach` in the middle of a connection's life, and `detach` before its end."""
    with place.flowing(rate=10.0 * RATE) as wire:
        free = wire.ratio(0.5)
        with place.limited("--egress", "5M") as said:
            time.sleep(0.5)
            limited = wire.ratio(1.5)
            (described,) = json.loads(podrate("status", "--sample", "0", "--json", place.pod).out)
        time.sleep(0.5)
        released = wire.ratio(1)
    ids, text = attached_ids(place.pod), podrate("status", "--sample", "0", place.pod).out
    figures = {"free": free, "ratio": limited, "released": released, "ids": ids, "status": text}
    return {**said._asdict(), **figures, "connections": described["connections"]}


def another_program(place: Place) -> Figures:
    """An exclusive program of somebody else's on the pod's cgroup."""
    let_pass = bytes.fromhex("b7000000010000009500000000000000")  # r0 = 1; exit
    cgroup_skb = 8  # enum bpf_prog_type
    fd = os.open(place.pod, os.O_RDONLY)
    program = bpf.Program(lib.bpf_prog_load(cgroup_skb, b"other", b"GPL", let_pass, 2, None))
    bpf.attach(program, fd, bpf.CGROUP_INET_INGRESS, bpf.EXCLUSIVE)
    said = podrate("attach", "--egress", "5M", place.pod)
    left = attached_ids(place.pod)
    bpf.detach(program, fd, bpf.CGROUP_INET_INGRESS)
    os.close(fd)
    return {**said._asdict(), "programs": sum(map(len, left))}


def ingress_queue(place: Place) -> Figures:
    """TCP that arrives waits, rather than be dropped."""
    place.lab.pod.run(["ip", "route", "add", "default", "via", place.lab.peer.v4])
    there = place.lab.pod.popen(["sh", "-c", "echo; exec sleep 1000"], place.container)  # a namespace needs a process
    assert there.stdout is not None
    there.stdout.readline()
    with place.limited("--ingress", "5M", "--ingress-queue") as said:
        measured = place.measure(direction="ingress", flows=2, seconds=2)
        text = podrate("status", "--sample", "0", place.pod).out
    links = place.lab.pod.run(["ip", "-o", "link"])
    there.kill()
    return {**said._asdict(), **measured, "status": text, "links": links}


def sidecar(_: Place) -> Figures:
    """The container that the webhook injects, as the demo's node runs it: its capabilities, its mounts, its probe.

    Then its annotation changes, and then it is killed, and another takes the exclusive programs over.
    """
    pod: dict[str, Any] = json.loads(Path("/pod.json").read_text())
    with Lab() as lab, Node(lab.pod, pod) as node:
        started = node.start_sidecar()
        place = Place(lab, str(node.app.path.parent), node.app)
        measured = place.measure(flows=2, seconds=2)

        pod["metadata"]["annotations"][ANNOTATION] = encode(Limit(egress=2 * RATE))
        begun = node.update(pod)
        while node.limit_in_force() != 2 * RATE and time.monotonic() < begun + 20:
            time.sleep(0.02)
        followed = time.monotonic() - begun

        first = attached_ids(place.pod)
        for pid in Path(place.pod, "podrate", "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        left = attached_ids(place.pod)
        begun = time.monotonic()
        node.start_sidecar()
        # Hook after hook is replaced: until none has what it had.
        while any(map(eq, attached_ids(place.pod), first)) and time.monotonic() < begun + 20:
            time.sleep(0.02)
        ids: Sequence[object] = [first, left, attached_ids(place.pod)]
        changed = place.measure(flows=2, seconds=2)["ratio"] / 2
        return {**measured, "changed": changed, "seconds": started, "followed": followed, "ids": ids, "log": node.log()}


def doctor(_: Place) -> Figures:
    """What it says is missing, and how much of it is needed."""
    return podrate_process("doctor")._asdict()


def memory_lock(place: Place) -> Figures:
    """Nothing may be locked, and CAP_SYS_RESOURCE, with which libbpf would raise that, is not there."""
    drop = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]
    argv = [*drop, "sh", "-c", 'ulimit -l 0; exec "$@"', "sh", "podrate"]

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*argv, *words], capture_output=True, text=True, timeout=60, check=False)

    done, examined = said("attach", "--egress", "5M", place.pod), said("doctor")
    podrate("detach", place.pod)
    return {"code": done.returncode, "error": done.stderr, "doctor": [examined.returncode, examined.stdout]}


def locked_down(place: Place) -> Figures:
    """The kernel locked down as far as it goes. To be the last: nothing unlocks it."""
    guest.mount("securityfs", "/sys/kernel/security")
    switch = Path("/sys/kernel/security/lockdown")
    switch.write_text("confidentiality")
    with place.limited() as said:
        return {**said._asdict(), **place.measure(flows=2, seconds=2), "mode": switch.read_text()}


OBSERVATIONS: tuple[Callable[[Place], Figures], ...] = (
    command,
    tcp_egress,
    tcp_ingress,
    udp_egress,
    udp_ingress,
    ipv6,
    run,
    live_change,
    older_connection,
    another_program,
    ingress_queue,
    sidecar,
    doctor,
    memory_lock,
    locked_down,
)


def main() -> None:
    """Make every observation."""
    with Lab() as lab, Cgroup("kernels", "pod/container") as container:
        guest.report(Place(lab, str(container.path.parent), container), OBSERVATIONS)
