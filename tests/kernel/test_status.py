"""podrate status: what is true now, of real traffic."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from loader import bpf
from loader.shaper import Shaper
from tests.kernel.conftest import ROOT, Podrate, in_a_mount_namespace
from tests.kernel.test_commands import compile_bpf


def measured(podrate: Podrate, cgroup: Cgroup, *options: str) -> dict[str, Any]:
    (described,) = json.loads(podrate("status", "--json", *options, str(cgroup.path)).stdout)
    egress: dict[str, Any] = described["egress"]
    return egress


def test_a_sender_that_wants_more_is_throttled_nearly_all_the_time(
    podrate: Podrate, lab: Lab, pod_cgroup: Cgroup
) -> None:
    podrate("attach", "--egress", "20M", str(pod_cgroup.path))
    with iperf.Run(lab, Traffic(flows=8, seconds=5), pod_cgroup) as under_way:
        time.sleep(1.5)
        egress = measured(podrate, pod_cgroup)
        text = podrate("status", str(pod_cgroup.path)).stdout
        under_way.wait()
    assert egress["sample"]["seconds"] == pytest.approx(1, abs=0.3)
    assert egress["sample"]["use"] == pytest.approx(1, abs=0.1)
    assert egress["sample"]["rate"] == pytest.approx(20e6, rel=0.1)
    print(egress["sample"])
    assert egress["sample"]["throttled"] > 0.5
    assert " % of the last " in text
    assert "throttled 0 %" not in text
    idle = measured(podrate, pod_cgroup, "--sample", "300ms")
    assert (idle["sample"]["rate"], idle["sample"]["throttled"]) == (0, 0)
    assert idle["throttled_ns"] > 1e9, "and the sum is kept"


def test_one_look_says_nothing_of_now(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    podrate("attach", "--egress", "20M", str(pod_cgroup.path))
    assert measured(podrate, pod_cgroup, "--sample", "0")["sample"] is None
    assert "of the last" not in podrate("status", "--sample", "0", str(pod_cgroup.path)).stdout
    code, line = podrate.error("status", "--sample", "1h")
    assert (code, "--sample" in line) == (2, True)


def test_more_limits_than_files_may_be_open_at_first(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    """Soft limits are 1024 nearly everywhere, and there may be more pods on a node than that is enough for."""
    below = [pod_cgroup.path / str(number) for number in range(20)]
    with Shaper() as shaper:
        for each in below:
            each.mkdir()
            shaper.attach(str(each), bpf.ALLOW_MULTI)
    few = ("prlimit", "--nofile=64:4096")
    found = json.loads(podrate("status", "--sample", "0", "--json", prefix=few).stdout)
    assert {str(each) for each in below} <= {each["cgroup"] for each in found}
    for each in below:
        each.rmdir()


def test_what_applies_to_a_cgroup_is_its_own_limit_and_those_above(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    container, pod = pod_cgroup.path, pod_cgroup.path.parent
    podrate("attach", "--egress", "20M", str(pod))
    found = json.loads(podrate("status", "--sample", "0", "--json", str(container)).stdout)
    assert [each["cgroup"] for each in found] == [str(pod)]
    podrate("attach", "--egress", "10M", str(container))
    found = json.loads(podrate("status", "--sample", "0", "--json", str(container)).stdout)
    assert [each["egress"]["limit"] for each in found] == [10_000_000, 20_000_000]


def test_who_else_is_attached(podrate: Podrate, pod_cgroup: Cgroup, tmp_path: Path) -> None:
    compile_bpf(tmp_path, 'SEC("cgroup_skb/ingress") int sd_fw_ingress(struct __sk_buff *skb) { return 1; }')
    fd = os.open(pod_cgroup.path, os.O_RDONLY)
    with bpf.ObjectSpec(str(tmp_path / "other.o")).load() as loaded:
        other = loaded.program("sd_fw_ingress")
        bpf.attach(other, fd, bpf.CGROUP_INET_INGRESS, bpf.ALLOW_MULTI)
        podrate("attach", "--egress", "20M", str(pod_cgroup.path))
        (described,) = json.loads(podrate("status", "--sample", "0", "--json", str(pod_cgroup.path)).stdout)
        text = podrate("status", "--sample", "0", str(pod_cgroup.path)).stdout
    os.close(fd)
    assert described["others"] == [{"hook": "ingress", "id": other.id, "name": "sd_fw_ingress", "exclusive": False}]
    assert f"program {other.id} (sd_fw_ingress) is beside ours, on the ingress hook" in text


def test_a_pod_is_called_by_its_name(podrate: Podrate, pod_cgroup: Cgroup) -> None:
    uid = str(uuid.uuid4())  # nobody else's on this machine
    pod = pod_cgroup.child(f"pod{uid}").path
    assert podrate("attach", "--egress", "20M", uid).returncode == 0
    prefix = in_a_mount_namespace(f"mount -t tmpfs tmpfs /var/log; mkdir -p /var/log/pods/shop_web_{uid}")
    text = podrate("status", "--sample", "0", "shop/web", prefix=prefix).stdout
    assert text.startswith(f"shop/web {pod}\n")
    described = json.loads(podrate("status", "--sample", "0", "--json", prefix=prefix).stdout)
    assert "shop/web" in [each["name"] for each in described]


def test_a_shaper_of_another_version_hides_no_other(podrate: Podrate, pod_cgroup: Cgroup, tmp_path: Path) -> None:
    compile_bpf(tmp_path, 'SEC("cgroup_skb/egress") int podrate_egress(struct __sk_buff *skb) { return 1; }')
    fd = os.open(pod_cgroup.path, os.O_RDONLY)
    podrate("attach", "--egress", "20M", str(pod_cgroup.path.parent))
    with bpf.ObjectSpec(str(tmp_path / "other.o")).load() as loaded:
        bpf.attach(loaded.program("podrate_egress"), fd, bpf.CGROUP_INET_EGRESS, bpf.ALLOW_MULTI)
        done = podrate("status", "--sample", "10ms")
    os.close(fd)
    assert done.returncode == 0
    assert str(pod_cgroup.path.parent) in done.stdout
    assert [line for line in done.stderr.splitlines() if f"{pod_cgroup.path} is limited by another version" in line]


def test_a_closed_standard_output_is_no_traceback() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "loader", "status", "--sample", "0"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stderr
