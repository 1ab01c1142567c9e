"""The guests, two at a time, and what they reported."""

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from bandwidth.keys import BANDWIDTH
from demo.admission import Webhook, labelled, stored, submitted
from tests.kernels import initramfs, qemu, systemd, table
from tests.kernels.archive import SUITES, Unavailable, kernel
from tests.kernels.qemu import Observed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if table.OBSERVED:
        terminalreporter.section("kernels")
        terminalreporter.write("".join([table.TABLE.header, *table.OBSERVED.values()]))


@pytest.fixture(scope="session")
def guests(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Observed]]]:
    """Every guest that a selected test looks at, by its name in GUESTS; two at once."""
    here = [
        item for item in request.session.items if isinstance(item, pytest.Function) and "guest" in item.fixturenames
    ]
    names = {item.callspec.params["name"] for item in here}
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {name: pool.submit(_observed, each) for name, each in GUESTS.items() if name in names}


@pytest.fixture
def guest(guests: dict[str, Future[Observed]], name: str) -> Observed:
    """What a guest reported."""
    try:
        observed = guests[name].result()
    except Unavailable as reason:
        if os.environ.get("CI"):
            pytest.fail(f"no guest: {reason}", pytrace=False)  # in CI nothing is skipped
        pytest.skip(f"no guest: {reason}")
    assert "boot" in observed.figures, f"the guest reported nothing: {observed.console[-3000:]}"
    return observed


class Guest(NamedTuple):
    """A kernel, by its Debian suite, and what is its first process."""

    suite: str
    systemd: bool = False
    arguments: str = ""


GUESTS = {
    **{series: Guest(suite) for series, suite in SUITES.items()},
    "unified": Guest("trixie", systemd=True, arguments=systemd.ARGUMENTS),
    "hybrid": Guest("bookworm", systemd=True, arguments=f"{systemd.ARGUMENTS} {systemd.HYBRID}"),
}


def _observed(guest: Guest) -> Observed:
    if missing := qemu.missing():
        raise Unavailable(missing)
    booted = kernel(guest.suite)
    files = systemd.FILES if guest.systemd else {"pod.json": _pod()}
    with tempfile.TemporaryDirectory(prefix="podrate-initramfs-") as directory:
        tree = initramfs.tree(booted, Path(directory), files)
    return qemu.boot(booted.image, _system(with_systemd=guest.systemd) + tree, guest.arguments)


@cache
def _system(*, with_systemd: bool) -> bytes:
    return initramfs.system(systemd.system() if with_systemd else ())


@cache
def _pod() -> str:
    """examples/pod.yaml as the API server stores it, the webhook's container in it."""
    manifest = yaml.safe_load((initramfs.ROOT / "examples" / "pod.yaml").read_text())
    pod = labelled(submitted(manifest), {BANDWIDTH: "5M"})
    with Webhook() as webhook:
        return json.dumps(stored(pod, webhook.create(pod).patch))
