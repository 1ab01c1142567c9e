"""What the tests' own API server leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.webhook.control_plane import ENDS_WITH_US


def test_a_killed_run_leaves_nothing_that_it_started() -> None:
    """As control_plane starts etcd and the API server, and conftest a webhook."""
    command = [*ENDS_WITH_US, "sleep", "60"]
    script = f"import subprocess, time; print(subprocess.Popen({command}).pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        process = int(run.stdout.readline())
        deadline = time.monotonic() + 20
        while not _sleeps(process):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
    while _sleeps(process):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _sleeps(process: int) -> bool:
    """Whether the process is there, no zombie, and `sleep` by now."""
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return "(sleep) S" in state
