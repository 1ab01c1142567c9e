"""podrate run: the command sees no difference but the limit."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cgroup import Cgroup, cgroup2_mount
from bench.lab import Lab
from loader.failure import RUN_EXIT_CODE
from tests.kernel.conftest import ROOT, Podrate, in_a_mount_namespace
from tests.kernel.terminal import Terminal

LIMITED = [sys.executable, "-m", "loader", "run", "--egress"]
RUN = [*LIMITED, "10M", "--"]


@pytest.fixture(autouse=True)
def home() -> Iterator[Path]:
    """Each test from a cgroup of its own, where what it leaves behind shows and nobody else's does."""
    pid = str(os.getpid())
    was = cgroup2_mount() / own_cgroup(pid)
    with Cgroup("run") as home:
        (home.path / "cgroup.procs").write_text(pid)
        try:
            yield home.path
        finally:
            (was / "cgroup.procs").write_text(pid)
        assert list(home.path.rglob("podrate-run-*")) == []


def own_cgroup(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().partition("0::/")[2].strip()


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
    # A shell can't trap what was ignored before it came, and the tests may run under nohup.
    heard = functools.partial(signal.signal, number, signal.SIG_DFL)
    argv = [*RUN, "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=heard) as process:
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
    cgroup = cgroup2_mount() / own_cgroup(str(pid))
    try:
        assert f"1 process(es) of the command still run; they stay limited in {cgroup}" in done.stderr
        (status,) = json.loads(podrate("status", "--sample", "0", "--json", str(cgroup)).stdout)
        assert status["egress"]["limit"] == 10_000_000
        assert podrate("run", "--egress", "1M", "--", "true").returncode == 0
        assert cgroup.exists(), "another run leaves it alone"
    finally:
        os.kill(pid, signal.SIGKILL)
        while (cgroup / "cgroup.procs").read_text():
            time.sleep(0.01)
    assert podrate("run", "--egress", "1M", "--", "true").returncode == 0
    assert not cgroup.exists(), "the next removes it when nothing runs in it any more"


def test_a_run_that_is_being_made_is_not_taken_for_abandoned(podrate: Podrate, home: Path) -> None:
    """It is empty as well, but its podrate is there."""
    made = home / f"podrate-run-{os.getpid()}-00000000"
    made.mkdir()
    assert podrate("run", "--egress", "1M", "--", "true").returncode == 0
    made.rmdir()


def test_a_cgroup_that_can_not_be_entered_says_why(podrate: Podrate, home: Path) -> None:
    threaded = home / "threaded"
    threaded.mkdir()
    try:
        (threaded / "cgroup.type").write_text("threaded")  # so that only such may be below `home`
        code, line = podrate.error("run", "--egress", "10M", "--", "true")
        assert (code, "can't be entered: Operation not supported. Remedy: " in line) == (RUN_EXIT_CODE, True)
        assert "no-cgroup: " in line
    finally:
        threaded.rmdir()


def test_what_can_not_be_written_is_said(podrate: Podrate) -> None:
    done = podrate("man", prefix=("sh", "-c", '"$@" >/dev/full', "sh"))
    assert (done.returncode, done.stderr) == (1, "podrate: standard output: No space left on device\n")
    code, line = podrate.error("run", "--egress", "10M", "--", "")
    assert (code, "run needs a COMMAND" in line) == (RUN_EXIT_CODE, True)


def test_a_cgroup_that_can_not_be_made_says_why(podrate: Podrate, home: Path) -> None:
    (home / "cgroup.max.descendants").write_text("0")
    code, line = podrate.error("run", "--egress", "10M", "--", "true")
    assert (code, "no-cgroup: " in line, "raise cgroup.max.descendants" in line) == (RUN_EXIT_CODE, True, True)
    (home / "cgroup.max.descendants").write_text("max")
    prefix = in_a_mount_namespace(f"mount -o remount,bind,ro {cgroup2_mount()}")
    code, line = podrate.error("run", "--egress", "10M", "--", "true", prefix=prefix)
    assert (code, "permission: " in line, "writable" in line) == (RUN_EXIT_CODE, True, True)


def test_stats_sum_up_what_passed(lab: Lab) -> None:
    server = lab.peer.popen(["iperf3", "-s", "-1"])
    time.sleep(0.3)
    client = ["iperf3", "-c", lab.peer.v4, "-t", "2", "-P", "4"]
    argv = lab.pod.command(["env", f"PYTHONPATH={ROOT}", *LIMITED, "20M", "--stats", "--", *client])
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    server.wait(5)
    assert "iperf Done." in done.stdout
    egress, ingress = done.stderr.splitlines()
    figures = re.fullmatch(
        r"podrate: egress (\S+)MB in (\S+) s, (\S+)Mbit/s on average; (\d+) packets passed, \d+ dropped, \d+ marked;"
        r" throttled (\d+) % of the time",
        egress,
    )
    assert figures, egress
    megabytes, took, rate, _, throttled = map(float, figures.groups())
    assert rate == pytest.approx(megabytes * 8 / took, rel=0.05)
    assert 14 < rate < 22
    assert throttled > 50
    assert ingress.startswith("podrate: ingress ")


def test_stats_change_nothing_for_the_command(podrate: Podrate) -> None:
    done = podrate("run", "--egress", "10M", "--stats", "--", "sh", "-c", "echo out; kill -TERM $$")
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "out\n")
    assert len(done.stderr.splitlines()) == 2
    done = podrate("run", "--egress", "10M", "--stats", "--", "true", prefix=("sh", "-c", 'exec "$@" 2>&-', "sh"))
    assert (done.returncode, done.stdout) == (0, "")


def test_stats_are_a_live_line_on_a_terminal() -> None:
    script = "sleep 2.5; echo done; exit 3"
    with Terminal([*LIMITED, "10M", "--stats", "--", "sh", "-c", script]) as terminal:
        terminal.until("podrate: egress 0bit/s of 10M, 0 % throttled; ingress 0bit/s")
        assert terminal.wait() == 3
        terminal.until("podrate: ingress 0B in 2.")
        assert [line for line in terminal.lines if line.startswith("podrate: egress 0B in 2.")]
        assert sum("of 10M" in line for line in terminal.lines) == 1, "drawn in place"


@pytest.mark.parametrize("stats", [[], ["--stats"]])
def test_job_control_in_a_real_shell(stats: list[str]) -> None:
    """Ctrl-Z, jobs, fg, Ctrl-C: of bash's interactive kind."""
    argv = " ".join(
        [
            *LIMITED,
            "10M",
            *stats,
            "--",
            "sh",
            "-c",
            "'trap \"echo g$((1))t; exit 9\" INT; echo r$((1))n; while :; do sleep 0.1; done'",
        ]
    )
    with Terminal(["bash", "--norc", "--noprofile", "-i"], columns=140, PS1="prompt> ") as terminal:
        terminal.until("prompt>")
        terminal.press(argv + "\n")
        terminal.until("r1n")
        terminal.press("\x1a")
        terminal.until("Stopped")
        terminal.press("jobs -l; echo in the $((6 * 7)) shell\n")
        terminal.until("in the 42 shell")
        terminal.press("fg\n")
        terminal.read(0.5)
        terminal.press("\x03")
        terminal.until("g1t")
        terminal.press("echo status $?; exit\n")
        terminal.until("status 9")


def test_a_background_job_draws_no_line() -> None:
    with Terminal(["bash", "--norc", "--noprofile", "-i"], columns=140, PS1="prompt> ") as terminal:
        terminal.until("prompt>")
        terminal.press(" ".join([*LIMITED, "10M", "--stats", "--", "sleep", "2.5"]) + " & \n")
        terminal.read(2)
        assert "of 10M" not in "\n".join(terminal.lines)
        terminal.press("wait; exit\n")
        terminal.until("podrate: ingress")
