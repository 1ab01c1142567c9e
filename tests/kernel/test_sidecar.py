"""The process in the pod, with its real mounts and capabilities, and a kubelet's way of changing the annotation."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from bandwidth.limit import ANNOTATION, Limit, encode
from bench import iperf
from bench.cgroup import Cgroup
from bench.command import stop
from bench.iperf import Traffic
from bench.lab import Lab
from demo.node import DownwardVolume
from loader.failure import EXIT_CODES
from loader.shaper import attached_ids, find_attached
from tests.kernel.conftest import ROOT, UID

M = 1_000_000
# As in the pod: these two capabilities, no others.
CAPABILITIES = ("setpriv", "--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all", "--no-new-privs")


class Pod:
    """A pod's three volumes, and its loader, started as often as a test likes."""

    def __init__(self, cgroup: Cgroup, directory: Path) -> None:
        self.cgroup = cgroup.path.parent
        self._root = cgroup.root
        self._limit, self._state = directory / "limit", directory / "state"
        self._limit.mkdir()
        self._state.mkdir()
        item = {"path": "limit", "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION}']"}}
        self._volume = DownwardVolume(self._limit, [item])
        self._log = directory / "log"
        self._started: list[subprocess.Popen[str]] = []

    def annotate(self, text: str | Limit) -> None:
        annotation = encode(text) if isinstance(text, Limit) else text
        self._volume.write({"metadata": {"annotations": {ANNOTATION: annotation}}})

    def command(self, *arguments: str) -> list[str]:
        """The loader's command line inside its mounts."""
        script = "mount -t tmpfs tmpfs /run; mkdir -p /run/podrate/cgroup /run/podrate/limit /run/podrate/state\n"
        for name, source in (("cgroup", self._root), ("limit", self._limit), ("state", self._state)):
            script += f"mount --bind {source} /run/podrate/{name}\n"
        script += "mount -o remount,bind,ro /run/podrate/cgroup; mount -o remount,bind,ro /run/podrate/limit\n"
        script += f'cd {ROOT}; exec "$@"'
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
        return [*enter, *CAPABILITIES, sys.executable, "-m", "loader", *arguments]

    def start(self, uid: str = UID) -> subprocess.Popen[str]:
        with self._log.open("w") as log:
            environment = {**os.environ, "POD_UID": uid}
            self._started.append(subprocess.Popen(self.command("sidecar"), stderr=log, text=True, env=environment))
        return self._started[-1]

    def probe(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("probe"), capture_output=True, text=True, timeout=20, check=False)

    def log(self) -> str:
        return self._log.read_text()

    def limit(self) -> Limit:
        """The limit in force, from the kernel."""
        attached = find_attached(str(self.cgroup))
        assert attached is not None
        limit = attached.buckets.limit()
        attached.close()
        return limit

    def await_limit(self, limit: Limit, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.limit() != limit:
            assert time.monotonic() < deadline, f"{self.limit()} after {seconds} s, not {limit}: {self.log()}"
            time.sleep(0.01)

    def fails(self, reason: str, uid: str = UID) -> str:
        """Start the loader where it can't work; returns its one line."""
        assert self.start(uid).wait(20) == EXIT_CODES[reason]
        (line,) = self.log().splitlines()
        assert line.startswith(f"podrate: {reason}: ")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            stop(process)


@pytest.fixture
def pod(pod_cgroup: Cgroup, tmp_path: Path) -> Iterator[Pod]:
    with Pod(pod_cgroup, tmp_path) as pod:
        pod.annotate(Limit(10 * M, 20 * M))
        yield pod


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
    with iperf.Run(lab, Traffic(flows=4, seconds=4), pod_cgroup) as under_way:
        time.sleep(1)
        process.kill()
        process.wait()
        pod.start()
        pod.annotate(Limit(egress=40 * M))
        pod.await_limit(Limit(egress=40 * M), 2)
        transfer = under_way.wait()
    assert 0.85 < transfer.between(3, 4) / (40 * M) < 1


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
    "uid", ["", "pod", "ffffffff-ffff-ffff-ffff-ffffffffffff", "../../../../../../etc/passwd/aaaa"]
)
def test_a_cgroup_that_is_not_found_is_not_replaced_by_another(pod: Pod, uid: str) -> None:
    line = pod.fails("no-cgroup", uid)
    assert repr(uid) in line or uid in line
    found = [path for path, _, _ in os.walk(pod._root) if any(attached_ids(path))]
    assert found == []


def test_no_cgroup_v2_in_the_mount(pod: Pod, tmp_path: Path) -> None:
    pod._root = tmp_path / "state"  # a directory, where the node's cgroups should be
    assert "no cgroup v2 is mounted at or below /run/podrate/cgroup" in pod.fails("no-cgroup2")


def test_no_annotation_no_start(pod: Pod) -> None:
    pod.annotate("")
    assert "podrate.io/limit" in pod.fails("annotation")
    assert not any(attached_ids(str(pod.cgroup)))


def test_somebody_elses_program_is_refused(pod: Pod) -> None:
    """Another loader's program that this pod's state does not know: without CAP_SYS_ADMIN it could be anybody's."""
    from loader import bpf
    from loader.shaper import Shaper

    with Shaper() as other:
        other.attach(str(pod.cgroup), bpf.EXCLUSIVE)
        assert "has another exclusive BPF program" in pod.fails("occupied")
        assert attached_ids(str(pod.cgroup)) == tuple((each,) for each in other.program_ids)


def test_a_missing_capability_is_one_line(pod: Pod) -> None:
    argv = pod.command("sidecar")
    argv[argv.index(CAPABILITIES[1])] = "--bounding-set=-all,+bpf"
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "POD_UID": UID}, check=False)
    assert done.returncode == EXIT_CODES["permission"]
    assert re.fullmatch(r"podrate: permission: .*\(this process lacks CAP_NET_ADMIN\).*\n", done.stderr)


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
