"""podrate top on a real terminal, through a pipe, and without rights."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import iperf
from bench.cgroup import Cgroup
from bench.iperf import Traffic
from bench.lab import Lab
from tests.kernel.conftest import ROOT, Podrate, in_a_mount_namespace
from tests.kernel.terminal import Terminal

TOP = [sys.executable, "-m", "loader", "top", "--every", "200ms"]
RESET = "\x1b[?1049l"  # the screen that was there before


@pytest.fixture
def limited(podrate: Podrate) -> Iterator[Cgroup]:
    """Two limited cgroups, whose names sort otherwise than their limits."""
    with Cgroup("top", "a-small") as cgroup:
        big = cgroup.root / "b-big"
        big.mkdir()
        podrate("attach", "--egress", "1M", str(cgroup.path))
        podrate("attach", "--bandwidth", "30M", str(big))
        yield cgroup


def order(terminal: Terminal) -> list[str]:
    """Which of ours stands where."""
    return [part for line in terminal.lines for part in ("a-small", "b-big") if f"/{part} " in line]


def test_a_table_that_keys_sort_and_q_ends(limited: Cgroup) -> None:
    assert limited
    with Terminal(TOP, columns=140) as terminal:
        terminal.until("a-small")
        terminal.holds("help in the last line", lambda: "q quit" in terminal.lines[-1])
        terminal.press("n")
        terminal.until("by name")
        terminal.holds("order by name", lambda: order(terminal) == ["a-small", "b-big", "b-big"])
        terminal.press("l")
        terminal.until("by limit")
        terminal.holds("order by limit", lambda: order(terminal) == ["b-big", "b-big", "a-small"])
        terminal.press("q")
        assert terminal.wait() == 0
        assert RESET.encode() in terminal.raw
        assert terminal.modes_now() == terminal.modes


def test_it_ends_with_its_terminal() -> None:
    """Also where SIGHUP is ignored, as under nohup."""
    with Terminal(["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *TOP]) as terminal:
        terminal.until("q quit")
        terminal.hang_up()
        assert terminal.process.wait(30) == 0


def test_it_shows_what_passes_now(lab: Lab, limited: Cgroup) -> None:
    cgroup = limited.child("c")
    with Terminal(TOP, columns=140) as terminal, iperf.Run(lab, Traffic(flows=4, seconds=4), cgroup) as under_way:
        assert cgroup.path.exists()
        deadline = time.monotonic() + 8
        while True:
            (row,) = [line.split() for line in terminal.until("a-small").splitlines() if "/a-small " in line] or [[]]
            if row and row[5] == "%" and int(row[4]) > 80:
                break
            assert time.monotonic() < deadline, terminal.lines
            terminal.read(0.2)
        assert row[1:2] + row[3:4] == ["egress", "1M"]
        under_way.wait()


def test_it_follows_the_windows_size(limited: Cgroup) -> None:
    assert limited
    with Terminal([*TOP, "--sort", "name"], columns=140, lines=30) as terminal:
        wide = terminal.until("b-big")
        terminal.resize(70, 12)
        terminal.read(1)
        narrow = terminal.until("a-small")
        assert max(map(len, narrow.splitlines())) <= 70
        assert "DROPS/s" in wide
        terminal.holds("help in the last line", lambda: terminal.lines[-1].startswith("q quit"))
        for columns, lines in ((8, 3), (1, 1), (300, 100)):
            terminal.resize(columns, lines)
            terminal.read(0.5)
            assert terminal.process.poll() is None, terminal.raw[-300:]
        terminal.until("b-big")
        terminal.press("q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGINT"])
def test_the_terminal_is_given_back(limited: Cgroup, how: str) -> None:
    assert limited
    with Terminal(TOP) as terminal:
        terminal.until("q quit")
        if how == "Ctrl-C":
            terminal.press("\x03")
        else:
            terminal.process.send_signal(signal.Signals[how])
        assert terminal.wait() == (143 if how == "SIGTERM" else 0)
        assert RESET.encode() in terminal.raw
        assert terminal.modes_now() == terminal.modes
        assert b"Traceback" not in terminal.raw


def test_ctrl_z_stops_it_and_fg_draws_it_again(limited: Cgroup) -> None:
    """Under a real shell with job control."""
    assert limited
    with Terminal(["bash", "--norc", "--noprofile", "-i"], columns=140, PS1="prompt> ") as terminal:
        terminal.until("prompt>")
        terminal.press(" ".join(TOP) + "\n")
        terminal.until("a-small")
        terminal.press("\x1a")
        terminal.until("Stopped")
        terminal.press("echo in the $((6 * 7)) shell\n")
        terminal.until("in the 42 shell")
        terminal.press("fg\n")
        terminal.until("q quit")
        terminal.press("q")
        terminal.read(0.5)
        terminal.press("echo status $?; exit\n")
        terminal.until("status 0")


@pytest.mark.parametrize("term", ["dumb", "no-such-terminal", ""])
def test_a_terminal_that_can_not_be_drawn_on_gets_lines(limited: Cgroup, term: str) -> None:
    assert limited
    with Terminal(TOP, columns=200, TERM=term) as terminal:
        terminal.until("a-small")
        assert b"\x1b[" not in terminal.raw
        terminal.press("\x03")
        assert terminal.wait() == 130


def test_a_pipe_gets_lines_of_fields(podrate: Podrate, limited: Cgroup) -> None:
    done = podrate("top", "--count", "2", "--every", "100ms", "--sort", "limit")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    heading, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [each.strip() for each in heading[:5]] == ["TIME", "CGROUP", "DIRECTION", "RATE", "LIMIT"]
    ours = [line for line in lines if line[1].startswith(str(limited.root))]
    assert [(line[1].rpartition("/")[2], line[2], line[4]) for line in ours] == 2 * [
        ("b-big", "egress", "30M"),
        ("b-big", "ingress", "30M"),
        ("a-small", "egress", "1M"),
    ]
    assert {len(line) for line in lines} == {len(heading)}


def test_json_is_a_line_a_look(podrate: Podrate, limited: Cgroup) -> None:
    done = podrate("top", "--json", "--count", "2", "--every", "100ms")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) == 2
    (small,) = [each for each in looks[1] if each["cgroup"] == str(limited.path)]
    assert 0.09 < small["egress"]["sample"]["seconds"] <= 0.3


def test_who_reads_it_may_go(limited: Cgroup) -> None:
    """As head does."""
    assert limited
    script = '"$@" | head -n 2; exit ${PIPESTATUS[0]}'
    done = subprocess.run(["bash", "-c", script, "bash", *TOP], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (141, "", 2)


def test_cgroups_come_and_go_before_its_eyes(podrate: Podrate, limited: Cgroup) -> None:
    with Terminal(TOP, columns=140) as terminal:
        terminal.until("a-small")
        for _ in range(3):
            cgroup = limited.child("fleeting")
            podrate("attach", "--egress", "7M", str(cgroup.path))
            terminal.until("/fleeting")
            cgroup.path.rmdir()
            terminal.holds("end of it", lambda: not any("/fleeting" in line for line in terminal.lines))
        podrate("attach", "--egress", "9M", str(limited.path))
        terminal.until(" 9M ")
        assert len([*Path(f"/proc/{terminal.process.pid}/fd").iterdir()]) < 60, "what is gone is closed"
        terminal.press("q")
        assert terminal.wait() == 0


def test_a_name_does_nothing_to_the_terminal(podrate: Podrate, limited: Cgroup) -> None:
    cgroup = limited.child("\x1b[2J\x07\u202efünf")
    podrate("attach", "--egress", "7M", str(cgroup.path))
    with Terminal(TOP, columns=200) as terminal:
        screen = terminal.until(r"\x1b[2J\x07\u202ef\xfcnf")
        assert "a-small" in screen
        assert b"\x07" not in terminal.raw


def test_pods_have_their_names(podrate: Podrate, limited: Cgroup) -> None:
    uid = str(uuid.uuid4())
    cgroup = limited.child(f"pod{uid}")
    podrate("attach", "--egress", "7M", str(cgroup.path))
    prefix = in_a_mount_namespace(f"mount -t tmpfs tmpfs /var/log; mkdir -p /var/log/pods/shop_web_{uid}")
    with Terminal([*prefix, *TOP]) as terminal:
        terminal.until("shop/web ")


def test_without_rights_it_is_one_line_and_the_terminal_as_it_was() -> None:
    no_rights = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    with Terminal([*no_rights, *TOP], columns=400) as terminal:
        assert terminal.wait() == 4
        terminal.until("podrate: permission:")
        assert terminal.modes_now() == terminal.modes
