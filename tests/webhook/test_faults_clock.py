"""The webhook's clock jumps, and comes back: its own only, by libfaketime; the API server's stays right."""

import time
from pathlib import Path

from tests.conftest import Fault
from tests.webhook.conftest import eventually, running
from tests.webhook.control_plane import SYSTEM, ControlPlane
from tests.webhook.load import UNLIMITED, load
from webhook.api import Api

OWN = ["--self-signed", "--service=podrate", f"--namespace={SYSTEM}", "--secret=podrate-tls", "--configuration=podrate"]


def test_a_clock_that_was_40_days_ahead(
    plane: ControlPlane, account: Path, api: Api, tmp_path: Path, fault: Fault
) -> None:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked = {
        "KUBECONFIG": str(account),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
    }
    faked |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with running(tmp_path, *OWN, "--overlap=2", authority=None, **faked) as webhook:
        webhook.event("ready")
        plane.service.ports.append(webhook.port)
        try:
            assert reviewed(plane, api) == []
            before = webhook.certificate()
            clock.write_text("+40d")
            eventually("another leaf", lambda: webhook.certificate() != before)
            ahead = webhook.certificate()
            # No clock of the API server's takes it; and nothing is let through without its limit.
            failures = reviewed(plane, api)
            assert failures
            assert UNLIMITED not in failures

            clock.write_text("+0")
            right = time.monotonic()
            eventually("a leaf for today", lambda: webhook.certificate() != ahead)
            eventually("ready", lambda: webhook.health("GET", "/readyz").status == 200)
            took = time.monotonic() - right
            assert reviewed(plane, api) == []
        finally:
            plane.service.ports.remove(webhook.port)
    plane.kubectl("-n", SYSTEM, "delete", "secret", "podrate-tls")  # other tests begin without one
    fault(
        "a replica's clock is 40 days ahead, and comes back",
        "it issues a leaf that the API server does not take yet; what asks for a limit is refused meanwhile; "
        "with the right time it issues another by itself",
        f"reviews succeed {took:.1f} s after the clock is right",
    )


def reviewed(plane: ControlPlane, api: Api) -> list[str]:
    """Why reviews of one second failed, on connections that are made now."""
    plane.service.disconnect()
    with load(api, 10) as reviews:
        time.sleep(1)
    return [each.reason for each in reviews.failures]
