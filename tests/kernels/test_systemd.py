"""Nodes whose first process is systemd: `podrate attach` on a real service and a slice, and a pod of its driver.

With cgroup v2 alone (on 6.12), and beside version 1 (hybrid, on 6.1), where version 2 is at /sys/fs/cgroup/unified.
"""

import pytest

from tests.kernels.qemu import Observed

MOUNTS = {"unified": "/sys/fs/cgroup", "hybrid": "/sys/fs/cgroup/unified"}
pytestmark = pytest.mark.parametrize("name", MOUNTS, scope="session")

LOW, HIGH = 0.85, 1.1  # of the limit
SERVICE = "shop.slice/shop-web.service"
PODS = "kubepods.slice/kubepods-burstable.slice"


def test_the_hierarchy_is_as_asked_for(guest: Observed, name: str) -> None:
    figures = guest.look("mounts")
    assert figures["cgroup2"] == MOUNTS[name]
    assert f"0::/{SERVICE}\n" in figures["own"]
    assert (":name=systemd:" in figures["own"]) == (name == "hybrid")
    assert figures["free"] > 5


def test_a_service_is_limited_by_its_name(guest: Observed, name: str) -> None:
    figures = guest.look("attach_to_a_service")
    assert figures["code"] == 0, figures["error"]
    assert figures["status"]["cgroup"] == f"{MOUNTS[name]}/{SERVICE}"
    assert LOW < figures["limited"] < HIGH


def test_systemd_goes_on_accounting_and_a_reload_leaves_the_limit(guest: Observed) -> None:
    figures = guest.look("attach_to_a_service")
    assert LOW < figures["reloaded"] < HIGH
    assert {other["hook"] for other in figures["status"]["others"]} == {"egress", "ingress"}
    assert not any(other["exclusive"] for other in figures["status"]["others"])
    assert figures["accounted"] > 0


def test_a_slice_is_limited_above_its_services(guest: Observed, name: str) -> None:
    figures = guest.look("attach_to_a_slice")
    assert figures["code"] == 0, figures["error"]
    assert LOW < figures["limited"] * 5 < HIGH, "the slice's limit, a fifth of the service's"
    assert f"{MOUNTS[name]}/shop.slice\n" in figures["text"]
    assert f"{MOUNTS[name]}/{SERVICE}\n" in figures["text"]
    # Before 6.12 the detached one takes along the fixed pace that the service's had given to its older connection.
    least = LOW if name == "unified" else 0.4
    assert least < figures["within"] < HIGH, "the service's own again"
    assert figures["free"] > 5


def test_a_pod_of_the_systemd_driver_is_found_by_its_uid(guest: Observed, name: str) -> None:
    figures = guest.look("a_pod_of_the_systemd_driver")
    pod = f"{MOUNTS[name]}/{PODS}/kubepods-burstable-pod0f0e0d0c_0b0a_4908_8706_050403020100.slice"
    assert figures["found"] == figures["resolved"] == pod
    assert figures["code"] == 0, figures["error"]
