"""What all tests share."""

import signal
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from tests import faults
from tests.table import RELIABILITY, without_figures

# A shared machine: how long an example takes says nothing about the code.
settings.register_profile("podrate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("podrate")

# As from a shell's prompt: a script's background has SIGINT ignored, and whatever it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


Fault = Callable[[str, str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help=f"write what the tests saw to {RELIABILITY}")
    parser.addoption("--crowd", type=int, default=20, metavar="N", help="how many pods tests/cluster creates at once")


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """Say, at the end of its test, what was seen of a fault: its name, what happened, and what was measured.

    The document must say the same, but for figures; `make test-faults` writes it anew.
    """

    def seen(name: str, happened: str, measured: str) -> None:
        assert name in faults.FAULTS
        line = f"| {name} | {happened} | {measured} |\n"
        if request.config.getoption("--write-table"):
            faults.TABLE.write(name, line)
        assert without_figures(faults.TABLE.documented(name)) == without_figures(line)

    return seen
