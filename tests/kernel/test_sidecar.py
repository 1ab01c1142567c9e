"""The process in the pod: attach, announce, follow, die, and be followed by another."""

import re
import signal
import time
from pathlib import Path
from statistics import median

import pytest

from bandwidth.limit import Limit, encode
from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from loader import queue
from loader.attached import find_attached
from loader.failure import EXIT_CODES
from loader.shaper import attached_ids
from tests.kernel.conftest import UID, Podrate
from tests.kernel.pod import Pod

M = 1_000_000


def test_attach_probe_follow_and_end(pod: Pod) -> None:
    process = pod.start()
    probed = pod.probe()
    assert probed.returncode == 0, probed.stderr + pod.log()
    assert encode(Limit(10 * M, 20 * M)) in probed.stdout
    assert pod.limit() == Limit(10 * M, 20 * M)

    pod.annotate(Limit(egress=5 * M))
    pod.await_limit(Limit(egress=5 * M), 1)
    pod.annotate(Limit())
    pod.await_limit(Limit(), 1)
    pod.annotate(Limit(30 * M, 30 * M))
    pod.await_limit(Limit(30 * M, 30 * M), 1)

    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert pod.limit() == Limit(30 * M, 30 * M), "the application still has its own shutdown to send"


def test_a_malformed_annotation_keeps_the_last_good_limit_and_is_reported_once(pod: Pod) -> None:
    pod.start()
    assert pod.probe().returncode == 0
    for text in ("", "10M", '{"v":1,"egress":"10M"}', '{"v":9}'):
        pod.annotate(text)
        time.sleep(0.4)
    assert pod.limit() == Limit(10 * M, 20 * M)
    assert len(re.findall("stays in force", pod.log())) == 4
    pod.annotate(Limit(egress=5 * M))
    pod.await_limit(Limit(egress=5 * M), 1)


def test_it_follows_within_a_fifth_of_a_second_and_does_not_wake_meanwhile(pod: Pod) -> None:
    process = pod.start()
    assert pod.probe().returncode == 0
    # Once it has done what it does after the attachment, which takes longer where others use the CPU.
    assert any(rests(process.pid) for _ in range(3))
    assert median(seconds_to(pod, Limit(egress=rate * M)) for rate in (5, 6, 7)) < 0.2


def test_it_polls_where_the_kernel_does_not_tell_of_changes(pod: Pod) -> None:
    """As without CONFIG_DNOTIFY; sysctl fs.dir-notify-enable refuses it to those that begin meanwhile."""
    switch = Path("/proc/sys/fs/dir-notify-enable")
    switch.write_text("0")
    try:
        process = pod.start()
        assert pod.probe().returncode == 0
    finally:
        switch.write_text("1")
    assert median(seconds_to(pod, Limit(egress=rate * M)) for rate in (5, 6, 7)) < 0.2
    before, began = wakeups(process.pid), time.monotonic()
    time.sleep(1)
    assert 5 < (wakeups(process.pid) - before) / (time.monotonic() - began) < 15
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


def seconds_to(pod: Pod, limit: Limit) -> float:
    """From the kubelet's change of the annotation's file until the kernel has it."""
    began = time.monotonic()
    pod.annotate(limit)
    pod.await_limit(limit, 2)
    return time.monotonic() - began


def rests(pid: int) -> bool:
    """Whether it does not wake for a second."""
    before = wakeups(pid)
    time.sleep(1)
    return wakeups(pid) == before


def wakeups(pid: int) -> int:
    """How often a process has waited for something, until now."""
    (count,) = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(count)


def test_programs_that_somebody_detached_are_missed_and_attached_anew(pod: Pod) -> None:
    """When the sidecar wakes the next time, by itself within half a minute."""
    process = pod.start()
    assert pod.probe().returncode == 0
    attached = find_attached(str(pod.cgroup))
    assert attached is not None
    with attached:
        attached.detach()
    pod.annotate(Limit(10 * M, 20 * M))  # the same: it wakes, and nothing changes
    assert process.wait(5) == EXIT_CODES["occupied"]
    assert "has not the programs that were attached to it, but []" in pod.log()
    pod.start()  # the kubelet
    assert pod.probe().returncode == 0
    assert pod.limit() == Limit(10 * M, 20 * M)


def test_what_is_set_on_the_node_lasts_until_the_label_changes(pod: Pod, podrate: Podrate) -> None:
    """`set` and `attach` change the sidecar's own programs: it goes on, says so, and follows the next label."""
    process, cgroup = pod.start(), str(pod.cgroup)
    assert pod.probe().returncode == 0
    programs = attached_ids(cgroup)
    for command, limit in (("set", Limit(4 * M, 20 * M)), ("attach", Limit(egress=4 * M, burst=20_000_000))):
        done = podrate(command, "--egress", "4M", *(["--burst", "20ms"] if command == "attach" else []), cgroup)
        assert (done.returncode, "label is changed" in done.stderr) == (0, True)
        pod.annotate(Limit(10 * M, 20 * M))  # the same: it wakes, and nothing changes
        pod.await_line(f"limit {encode(limit)} is in force, set on the node")
        assert encode(limit) in pod.probe().stdout
    pod.annotate(Limit(egress=5 * M))
    pod.await_limit(Limit(egress=5 * M), 1)
    assert (process.poll(), attached_ids(cgroup)) == (None, programs)


def test_what_is_detached_on_the_node_comes_back_and_detach_says_so(pod: Pod, podrate: Podrate) -> None:
    process = pod.start()
    assert pod.probe().returncode == 0
    done = podrate("detach", str(pod.cgroup))
    assert (done.returncode, "attaches it again within half a minute" in done.stderr) == (0, True)
    pod.annotate(Limit(10 * M, 20 * M))
    assert process.wait(5) == EXIT_CODES["occupied"]


def test_once_attaches_and_ends_and_the_limit_stays(pod: Pod) -> None:
    """And a second time, when the kubelet makes the pod's sandbox anew and runs its init containers again."""
    for limit in (Limit(10 * M, 20 * M), Limit(egress=5 * M)):
        pod.annotate(limit)
        assert pod.start("--once").wait(20) == 0
        assert pod.limit() == limit
        assert "takes a new pod" in pod.log()


def test_once_fails_as_ever(pod: Pod) -> None:
    pod.annotate("")
    assert pod.start("--once").wait(20) == EXIT_CODES["annotation"]
    assert not any(attached_ids(str(pod.cgroup)))


def test_killed_under_traffic_the_limit_stays_and_the_next_loader_takes_over(
    lab: Lab, pod: Pod, pod_cgroup: Cgroup
) -> None:
    process = pod.start()
    assert pod.probe().returncode == 0
    first = attached_ids(str(pod.cgroup))
    with iperf.Run(lab, Traffic(seconds=4), pod_cgroup) as under_way:
        time.sleep(1)
        process.kill()
        process.wait()
        assert attached_ids(str(pod.cgroup)) == first
        time.sleep(1)
        pod.start()
        while attached_ids(str(pod.cgroup)) == first:
            time.sleep(0.01)
        transfer = under_way.wait()
    assert pod.probe().returncode == 0
    # In no tenth of a second more than the limit and one burst.
    assert max(interval.rate for interval in transfer.intervals) < 1.3 * 10 * M
    assert 0.85 < transfer.goodput / (10 * M) < 1


def test_a_restarted_loader_paces_the_connections_of_its_predecessor(lab: Lab, pod: Pod, pod_cgroup: Cgroup) -> None:
    """It may not look for them (CAP_PERFMON); but they call the new program. Not met again, they stay at 10M."""
    process = pod.start()
    assert pod.probe().returncode == 0
    with iperf.Run(lab, Traffic(flows=4, seconds=6), pod_cgroup) as under_way:
        time.sleep(1)
        process.kill()
        process.wait()
        pod.start()
        pod.annotate(Limit(egress=40 * M))
        pod.await_limit(Limit(egress=40 * M), 3)
        transfer = under_way.wait()
    assert 0.85 < transfer.between(4.5, 6) / (40 * M) < 1


def test_the_probe_waits_for_a_loader_and_says_that_there_is_none(pod: Pod) -> None:
    probed = pod.probe()
    assert probed.returncode == EXIT_CODES["not-limited"]
    assert probed.stderr.startswith("podrate: not-limited: the loader has not attached a limit yet")


def test_garbage_in_the_state_directory_is_as_good_as_nothing(pod: Pod) -> None:
    (pod._state / "announced").write_text('["not", "ours"]')
    (pod._state / "programs").write_text("12\nx\n\n-3\n")
    assert pod.probe().returncode == EXIT_CODES["not-limited"]
    pod.start()
    assert pod.probe().returncode == 0, pod.log()


def test_a_state_directory_that_cannot_be_written_is_one_line(pod: Pod) -> None:
    (pod._state / "programs").mkdir()
    assert pod.start().wait(20) == 1
    assert re.fullmatch("podrate: .*Is a directory.*\n", pod.log())
    assert not any(attached_ids(str(pod.cgroup)))


@pytest.mark.parametrize(
    "shape", ["kubepods/burstable/pod{}", "kubelet/kubepods/pod{}", "{systemd}", "kubelet.slice/kubelet-{systemd}"]
)
def test_every_shape_of_a_pods_cgroup(tmp_path: Path, shape: str) -> None:
    systemd = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
    path = shape.format(UID, systemd=systemd)
    with Cgroup("shape", f"{path}/cri-containerd-1.scope") as cgroup, Pod(cgroup, tmp_path) as pod:
        pod.annotate(Limit(egress=10 * M))
        pod.start()
        assert pod.probe().returncode == 0, pod.log()
        assert pod.limit() == Limit(egress=10 * M)


def test_the_ingress_queue_comes_and_goes_with_its_field(pod: Pod) -> None:
    with Lab() as lab:
        lab.pod.run(["ip", "route", "add", "default", "via", lab.peer.v4])

        def await_queue(there: bool) -> None:
            deadline = time.monotonic() + 5
            while (queue.DEVICE in lab.pod.run(["ip", "-o", "link"])) != there:
                assert time.monotonic() < deadline, pod.log()
                time.sleep(0.05)

        process = pod.start(network=lab.pod)
        assert pod.probe().returncode == 0
        await_queue(there=False)
        pod.annotate(Limit(10 * M, 20 * M, ingress_queue=True))
        await_queue(there=True)
        pod.annotate(Limit(10 * M, 20 * M))
        await_queue(there=False)
        pod.annotate(Limit(10 * M, 20 * M, ingress_queue=True))
        await_queue(there=True)
        process.kill()
        process.wait()
        pod.annotate(Limit(10 * M, 20 * M))
        pod.start(network=lab.pod)
        await_queue(there=False)
