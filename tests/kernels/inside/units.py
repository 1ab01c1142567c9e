"""What a guest looks at whose first process is systemd: units, slices, a pod as the kubelet's systemd driver has it."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.lab import Lab
from loader.cgroup import find_pod, mount_point
from loader.target import resolve
from tests.kernels.inside import guest
from tests.kernels.inside.place import ENDLESS, Figures, Wire, podrate

SERVICE, SLICE = "shop-web.service", "shop.slice"
UID = "0f0e0d0c-0b0a-4908-8706-050403020100"


class Machine(NamedTuple):
    """A service of systemd's that sends, and the wire on which it does."""

    lab: Lab
    wire: Wire

    def rate(self) -> float:
        """What it sends, half a second after something changed."""
        time.sleep(0.5)
        return self.wire.ratio(1.5)


def systemctl(*arguments: str) -> str:
    """What systemctl says, once it is done."""
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=60, check=False).stdout


def mounts(machine: Machine) -> Figures:
    """Where the hierarchies are, and what the service is called in them."""
    (pid,) = systemctl("show", "--property=MainPID", "--value", SERVICE).split()
    own = Path(f"/proc/{pid}/cgroup").read_text()
    return {"cgroup2": mount_point(), "own": own, "version": systemctl("--version").split()[1], "free": machine.rate()}


def attach_to_a_service(machine: Machine) -> Figures:
    """By its name; systemd's own program (IPAccounting) is beside ours, and a reload leaves both."""
    said = podrate("attach", "--egress", "5M", SERVICE)
    limited = machine.rate()
    systemctl("daemon-reload")
    reloaded = machine.rate()
    (described,) = json.loads(podrate("status", "--sample", "0", "--json", SERVICE).out)
    accounted = int(systemctl("show", "--property=IPEgressBytes", "--value", SERVICE))
    return {**said._asdict(), "limited": limited, "reloaded": reloaded, "status": described, "accounted": accounted}


def attach_to_a_slice(machine: Machine) -> Figures:
    """Above the service, whose own limit stays: the lower one counts."""
    said = podrate("attach", "--egress", "1M", SLICE)
    limited = machine.rate()
    text = podrate("status", "--sample", "0").out
    podrate("detach", SLICE)
    within = machine.rate()
    podrate("detach", SERVICE)
    return {**said._asdict(), "limited": limited, "text": text, "within": within, "free": machine.rate()}


def a_pod_of_the_systemd_driver(_: Machine) -> Figures:
    """A pod's slice, made by systemd as the kubelet asks it to, is found by the pod's UID."""
    pod = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
    run("--slice", pod, "--unit=cri-containerd-1", "--", "sleep", "1000")
    found = find_pod(mount_point(), UID)
    said = podrate("attach", "--egress", "5M", UID)
    return {**said._asdict(), "found": found, "resolved": resolve(UID)}


OBSERVATIONS = (mounts, attach_to_a_service, attach_to_a_slice, a_pod_of_the_systemd_driver)


def run(*arguments: str) -> None:
    """Start a transient unit."""
    subprocess.run(["systemd-run", "--quiet", *arguments], check=True, timeout=60, capture_output=True)


@contextmanager
def sending(lab: Lab) -> Iterator[Machine]:
    """The service, in the pod's network namespace, sends to the peer for as long as the block lasts."""
    lab.peer.popen(["iperf3", "--server"])
    namespace = f"NetworkNamespacePath=/run/netns/{lab.pod.name}"
    time.sleep(1)
    client = ["iperf3", "--client", lab.peer.v4, "--time", str(10 * ENDLESS)]
    run(f"--unit={SERVICE}", f"--slice={SLICE}", f"--property={namespace}", "--property=IPAccounting=yes", *client)
    wire = Wire(lab.peer)
    wire.wait_data()
    yield Machine(lab, wire)


def main() -> None:
    """Make every observation, and end the machine, systemd and all."""
    guest.load_modules()
    try:
        with Lab() as lab, sending(lab) as machine:
            guest.report(machine, OBSERVATIONS)
    finally:
        guest.end()
