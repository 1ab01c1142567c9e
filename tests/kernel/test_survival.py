"""No gap: whatever happens to loaders, each packet meets a limit."""

import random
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from bandwidth.limit import Limit
from bench import flood
from bench.cgroup import Cgroup
from bench.lab import Lab
from bench.meter import STEP, Meter
from loader import bpf
from loader.attached import find_attached
from loader.bucket import EGRESS
from loader.shaper import Shaper, attached_ids
from tests.kernel.conftest import Pod

M = 1_000_000


def test_fifty_loaders_killed_under_traffic_leave_no_unlimited_window(lab: Lab, pod: Pod, pod_cgroup: Cgroup) -> None:
    """Killed at any moment of their lives, while a flood of thirty times the limit waits for a hole."""
    moment = random.Random(50)  # noqa: S311  the same moments each time
    pod.start()
    assert pod.probe().returncode == 0, pod.log()
    with Meter(lab.peer) as meter:
        flooding = lab.pod.popen(["python3", Path(flood.__file__), lab.peer.v4, str(300 * M), "60"], pod_cgroup)
        time.sleep(0.3)
        seen = {attached_ids(str(pod.cgroup))}
        for number in range(50):
            loader = pod.start()
            if number % 2:
                eventually(lambda: attached_ids(str(pod.cgroup)) not in seen)
            else:
                time.sleep(moment.uniform(0, 0.3))
            loader.kill()
            loader.wait()
            ids = attached_ids(str(pod.cgroup))
            assert [len(each) for each in ids] == [1, 1, 1]
            seen.add(ids)
        flooding.kill()
        arrived = meter.arrived()
    assert len(seen) > 25, "they did replace one another"
    under_way = arrived[arrived.index(next(filter(None, arrived))) :]
    assert sum(under_way) / len(under_way) / STEP * 8 > 0.8 * 10 * M, "there was traffic, all the time"
    # A new program's clocks are fresh: it admits its burst and its horizon, 10 ms each, beside what is due. Without a
    # limit it takes the flood less than 2 ms to exceed that.
    assert max(under_way) < 4 * 10 * M * STEP / 8


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_three_hundred_replacements_miss_no_packet(lab: Lab, pod_cgroup: Cgroup) -> None:
    cgroup, packets, replacements = str(pod_cgroup.path.parent), 200_000, 300
    script = (
        "import socket, sys, time\n"
        "out, count, seconds = socket.socket(type=socket.SOCK_DGRAM), int(sys.argv[2]), float(sys.argv[3])\n"
        "began = time.monotonic()\n"
        "for each in range(count):\n"
        "    if each % 100 == 0: time.sleep(max(0, began + seconds * each / count - time.monotonic()))\n"
        "    out.sendto(b'x', (sys.argv[1], 9))\n"
    )
    replaced: deque[Shaper] = deque()
    met = 0

    def retire() -> None:
        nonlocal met
        shaper = replaced.popleft()
        counters = shaper.buckets.counters(EGRESS)
        met += counters.passed_packets + counters.dropped_packets
        shaper.close()

    def put() -> None:
        shaper = Shaper()
        shaper.buckets.set(Limit(egress=1000 * M))
        shaper.attach(cgroup, bpf.EXCLUSIVE)
        replaced.append(shaper)
        if len(replaced) > 10:  # by then no packet is in it any more
            retire()

    put()
    sender = lab.pod.popen(["python3", "-c", script, lab.peer.v4, str(packets), "8"], pod_cgroup)
    during = 0
    for _ in range(replacements):
        put()
        during += sender.poll() is None
    assert sender.wait(60) == 0
    assert during > replacements * 0.9, "the packets were sent meanwhile"
    while replaced:
        retire()
    assert met == packets


def test_a_shaper_is_found_while_it_is_being_replaced(pod_cgroup: Cgroup) -> None:
    """A loader that starts again is no failure of `status`."""
    cgroup = str(pod_cgroup.path)
    done = Event()

    def replace() -> None:
        while not done.is_set():
            with Shaper() as shaper:
                shaper.attach(cgroup, bpf.EXCLUSIVE)

    with ThreadPoolExecutor(1) as threads:
        replacing = threads.submit(replace)
        deadline, found = time.monotonic() + 2, set()
        while time.monotonic() < deadline and not replacing.done():
            if attached := find_attached(cgroup):
                with attached:
                    assert attached.buckets.limit() == Limit()
                    found.add(attached.programs[0].id)
            else:
                assert not found, "once there is one, there always is"
        done.set()
        replacing.result()
    assert len(found) > 3
