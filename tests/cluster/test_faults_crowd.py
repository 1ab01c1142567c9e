"""Many pods at once on one node: what the webhook takes for each, that each is limited, and what the loaders cost.

`--crowd` says how many; the table has 100, the kubelet's default of 110 less those of the tests.
"""

import json
import sys
import time

import pytest

from tests.conftest import Fault

from .conftest import SYSTEM, Figures, pod
from .images import ROOT, Images
from .kubectl import Cluster, application, eventually
from .machine import Machine
from .node import Node
from .serving import replicas

REVIEWS, SUM, BUCKET = (f"podrate_review_seconds_{each}" for each in ("count", "sum", "bucket"))
# The sum of the proportional set sizes of the processes that are named, in kB: what they share is divided among them.
PSS = (
    "import sys; print(sum(int(line.split()[1]) for each in sys.argv[1:] for line in open(f'/proc/{each}/smaps_rollup')"
)
PSS += " if line.startswith('Pss:')))"


@pytest.mark.usefixtures("pods")
def test_many_pods_at_once(
    cluster: Cluster,
    node: Node,
    machine: Machine,
    images: Images,
    figures: Figures,
    fault: Fault,
    request: pytest.FixtureRequest,
) -> None:
    count: int = request.config.getoption("--crowd")
    # A limit of its own for each: none must have another's.
    limits = {f"crowd-{each}": each * 1_000_000 for each in range(1, count + 1)}
    before = _reviews(cluster, node)
    began = time.monotonic()
    asleep = ["sleep", "infinity"]
    request.addfinalizer(lambda: cluster.delete(*limits))
    cluster.create(
        *[
            application(name, images.app, asleep, {"podrate.io/egress": str(limit)}, **node.beside)
            for name, limit in limits.items()
        ]
    )
    cluster.wait_ready(*limits, timeout=60 + 6 * count)
    took = time.monotonic() - began
    reviews = {name: value - before.get(name, 0) for name, value in _reviews(cluster, node).items()}

    status = json.loads(machine.run("sh", "-c", f"cd {ROOT} && {sys.executable} -m loader status --json"))
    found = {each["name"].rpartition("/")[2]: each for each in status}
    assert {name: found[name]["egress"]["limit"] for name in limits} == limits
    assert {found[name]["attachment"] for name in limits} == {"exclusive"}
    crowd = [each for each in cluster.get("pods")["items"] if each["metadata"]["name"] in limits]
    restarts = sum(each["status"]["initContainerStatuses"][0]["restartCount"] for each in crowd)
    loaders = node.execute("pgrep", "-f", "^[^ ]*python3 .*podrate sidecar").split()
    assert len(loaders) >= count
    each_kb = int(node.execute("python3", "-c", PSS, *loaders)) / len(loaders)

    programs = {program for name in limits for program in found[name]["programs"]}
    began = time.monotonic()
    cluster.delete(*limits)
    eventually("no program of theirs", lambda: not programs & node.loaded(), 60 + 3 * count)
    gone = time.monotonic() - began

    mean = reviews[SUM] / reviews[REVIEWS]
    slowest = min(bound for bound, below in _buckets(reviews) if below >= 0.99 * reviews[REVIEWS])
    figures[f"{count} pods at once, all Ready, s"] = took
    figures[f"{count} pods at once, a review, mean, ms"] = mean * 1000
    figures[f"{count} pods at once, a review, 99 % within, ms"] = slowest * 1000
    figures[f"{count} pods at once, loaders in all, MB"] = each_kb * count / 1000
    figures[f"{count} pods at once, loaders that were restarted"] = restarts
    figures[f"{count} pods at once, deleted to nothing of them left, s"] = gone
    assert reviews[REVIEWS] >= count
    assert slowest <= 2.5  # of the 5 s that the API server waits
    fault(
        "many pods are created at once on one node",
        "each has its own limit, as `podrate status` reads it from the kernel; deleted, they leave nothing",
        f"{count} pods: Ready after {took:.0f} s; a review {mean * 1000:.1f} ms, 99 % within {slowest * 1000:g} ms; "
        f"loaders {each_kb * count / 1000:.0f} MB in all, {each_kb / 1000:.1f} each (PSS); {restarts} restarted",
    )


def _reviews(cluster: Cluster, node: Node) -> dict[str, float]:
    """The histogram of both replicas together."""
    total: dict[str, float] = {}
    for name in replicas(cluster):
        for metric, value in node.scrape(f"{pod(cluster, name, SYSTEM).address}:8080").items():
            if metric.startswith("podrate_review_seconds"):
                total[metric] = total.get(metric, 0) + value
    return total


def _buckets(reviews: dict[str, float]) -> list[tuple[float, float]]:
    """How many took no longer than how many seconds."""
    return [(float(name.split('"')[1]), value) for name, value in reviews.items() if name.startswith(BUCKET)]
