"""Connections that are older than the limit, with real traffic: paced like the others, or else at a fixed rate."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bandwidth.limit import Limit
from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic, Transfer
from bench.lab import Lab
from loader import bpf
from loader.adopt import Adopted, adopt
from loader.bucket import EGRESS
from loader.shaper import Shaper
from tests.kernel.conftest import Podrate

M = 1_000_000


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    """A service's cgroup, with a worker's below."""
    with Cgroup("adopt", "service/worker") as cgroup:
        yield cgroup


def attach(cgroup: Cgroup, limit: Limit, *, iterator: bool = True) -> tuple[Shaper, Adopted]:
    """As `podrate attach` does, on the service. The caller closes the shaper."""
    service, shaper = str(cgroup.path.parent), Shaper()
    shaper.buckets.set(limit)
    shaper.attach(service, bpf.EXCLUSIVE)
    return shaper, adopt(service, shaper, iterator=iterator)


def settled(transfer: Transfer, attached: float) -> float:
    """Goodput in bits/s from a second after the attachment on."""
    return transfer.between(attached + 1, float("inf"))


@pytest.mark.parametrize(("flows", "family"), [(1, 4), (8, 4), (1, 6)])
def test_a_running_transfer_is_paced(lab: Lab, cgroup: Cgroup, podrate: Podrate, flows: int, family: int) -> None:
    traffic = Traffic(flows=flows, seconds=5, family=family)  # type: ignore[arg-type]
    with iperf.Run(lab, traffic, cgroup) as under_way:
        time.sleep(1)
        done = podrate("attach", "--egress", "10M", str(cgroup.path.parent))
        transfer = under_way.wait()
    assert (done.returncode, done.stderr) == (0, "")
    print(settled(transfer, 2) / (10 * M), transfer.retransmits, [round(i.rate / M, 1) for i in transfer.intervals])
    assert 0.85 < settled(transfer, 1.3) / (10 * M) < 0.98
    assert transfer.retransmits < 100 * flows
