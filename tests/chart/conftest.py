"""helm, and a real API server to ask about what it renders."""

import os
from collections.abc import Iterator

import pytest

from tests.chart.helm import Helm
from tests.webhook.control_plane import BIN, ControlPlane, control_plane, obstacle


@pytest.fixture(scope="session")
def built() -> None:
    """helm and the API server are there."""
    if reason := obstacle():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no helm: {reason}", pytrace=False)  # in CI nothing is skipped
        pytest.skip(f"no helm: {reason}")


@pytest.fixture(scope="session")
def helm(built: None) -> Helm:  # noqa: ARG001
    return Helm(BIN / "helm")


@pytest.fixture(scope="session")
def plane(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:  # noqa: ARG001
    with control_plane(tmp_path_factory.mktemp("plane")) as it:
        yield it
