"""podrate run: the command sees no difference but the limit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cgroup import cgroup2_mount
from bench.lab import Lab
from tests.kernel.conftest import ROOT, Podrate

LIMITED = [sys.executable, "-m", "loader", "run", "--egress"]
RUN = [*LIMITED, "10M", "--"]


def transient() -> set[Path]:
    return set(cgroup2_mount().glob("podrate-run-*"))


@pytest.fixture(autouse=True)
def _leaves_nothing() -> Iterator[None]:
    before = transient()
    yield
    assert transient() <= before


@pytest.mark.parametrize("status", [0, 1, 2, 125, 255])
def test_the_exit_status_is_the_commands(podrate: Podrate, status: int) -> None:
    done = podrate("run", "--egress", "10M", "--", "sh", "-c", f"echo out; echo err >&2; exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "out\n", "err\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_it_dies_of_what_the_command_died_of(podrate: Podrate, number: signal.Signals) -> None:
    assert podrate("run", "--egress", "10M", "--", "sh", "-c", f"kill -{number} $$").returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.value}; echo ready; for i in $(seq 500); do sleep 0.01; done"
    with subprocess.Popen([*RUN, "sh", "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "got\n"
    assert process.returncode == 9


@pytest.mark.parametrize("delay", [0, 0.02, 0.05, 0.1])
def test_a_signal_while_it_starts_leaves_nothing(delay: float) -> None:
    """Python's own start may die of it; from the first cgroup on it is kept for the command."""
    with subprocess.Popen([*RUN, "sleep", "5"], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay)
        process.terminate()
        assert process.wait(3) == -signal.SIGTERM


def test_it_stops_and_goes_on_with_the_command() -> None:
    """The shell's job control: Ctrl-Z, then fg."""
    script = "kill -STOP $$; echo on"
    with subprocess.Popen([*RUN, "sh", "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=10)[0] == "on\n"
    assert process.returncode == 0


def test_standard_input_descriptors_and_environment_pass_through() -> None:
    read, write = os.pipe()
    script = f"cat; echo $PODRATE_TEST >&{write}"
    done = subprocess.run(
        [*RUN, "bash", "-c", script],  # dash takes only descriptors of one digit
        input="in",
        capture_output=True,
        text=True,
        cwd=ROOT,
        pass_fds=[write],
        env={**os.environ, "PODRATE_TEST": "kept"},
        check=True,
    )
    os.close(write)
    assert done.stdout == "in"
    assert os.read(read, 100) == b"kept\n"
    os.close(read)


def test_signal_dispositions_are_the_callers() -> None:
    script = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getsignal(signal.SIGPIPE).name)"
    plain = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    limited = subprocess.run([*RUN, sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert limited.stdout == plain.stdout


def test_a_parent_that_ignores_its_children(podrate: Podrate) -> None:
    done = podrate(
        "run", "--egress", "10M", "--", "sh", "-c", "exit 5", prefix=("bash", "-c", "trap '' CHLD; exec \"$@\"", "-")
    )
    assert done.returncode == 5


def test_a_command_that_is_not_there_or_not_executable(podrate: Podrate, tmp_path: Path) -> None:
    assert podrate.error("run", "--egress", "10M", "--", "/no/such") == (127, "podrate: /no/such: command not found")
    code, line = podrate.error("run", "--egress", "10M", "--", str(tmp_path))
    assert code == 126
    assert "Permission denied" in line


@pytest.mark.parametrize(("outer", "inner"), [("1G", "1M"), ("1M", "1G")])
def test_the_command_is_limited_from_its_first_packet_and_inside_another(outer: str, inner: str) -> None:
    """Two limits, one within the other: the lower one counts, wherever it stands."""
    send = "import socket, sys; s = socket.socket(type=socket.SOCK_DGRAM)\n"
    send += "for _ in range(1000): s.sendto(bytes(1000), (sys.argv[1], int(sys.argv[2])))"
    with Lab() as lab:
        server = lab.peer.popen(["python3", "-c", _RECEIVE, lab.peer.v4])
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        command = [sys.executable, "-c", send, lab.peer.v4, port]
        lab.pod.run(["env", f"PYTHONPATH={ROOT}", *LIMITED, outer, "--", *LIMITED, inner, "--", *command])
        got = int(server.stdout.readline())
    # 1 Mbit/s: 10 ms of burst and 64 ms of horizon for datagrams, then next to nothing in the time that this takes.
    assert 5 < got < 100


_RECEIVE = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM); s.bind((sys.argv[1], 0)); print(s.getsockname()[1], flush=True)
s.settimeout(10)
got = len(s.recv(2000)) // 1000
s.settimeout(0.5)
try:
    while True: got += len(s.recv(2000)) // 1000
except TimeoutError:
    print(got, flush=True)
"""


def test_what_the_command_leaves_running_stays_limited(podrate: Podrate) -> None:
    done = podrate("run", "--egress", "10M", "--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
    pid = int(done.stdout)
    cgroup = cgroup2_mount() / Path(f"/proc/{pid}/cgroup").read_text().partition("0::/")[2].strip()
    try:
        assert f"1 process(es) of the command still run; they stay limited in {cgroup}" in done.stderr
        (status,) = json.loads(podrate("status", "--sample", "0", "--json", str(cgroup)).stdout)
        assert status["egress"]["limit"] == 10_000_000
    finally:
        os.kill(pid, signal.SIGKILL)
        while (cgroup / "cgroup.procs").read_text():
            time.sleep(0.01)
        cgroup.rmdir()
