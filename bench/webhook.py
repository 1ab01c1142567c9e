"""The webhook beside the floor of its stack: reviews as the API server sends them, at a steady rate, in turns.

python -m bench.webhook --rate 200 --rounds 40 --seconds 0.5

Both servers are pinned to CPU 0, the load to CPU 1. The webhook is the real one, with a certificate of its own, and
watches a real kube-apiserver, which is idle meanwhile. Reviews are sent when they are due, whether or not those before
were answered: on another connection then, and a server that falls behind shows it.
"""

import argparse
import asyncio
import base64
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import uvloop

from bench.command import LabError, require, terminable
from tests.webhook.control_plane import SYSTEM, ControlPlane, control_plane
from webhook import tls

_REVIEW = Path(__file__).with_name("review.json")  # of a pod of two containers, as kube-apiserver 1.36 posted it
_SERVER_CPU, _LOAD_CPU = 0, 1
# kube-apiserver's transport for webhooks: HTTP/1.1, and as many connections as there are requests at once.
_HEAD = (
    "POST /mutate?timeout=5s HTTP/1.1\r\nHost: podrate.podrate-system.svc:443\r\n"
    "User-Agent: kube-apiserver-admission\r\nContent-Length: {}\r\nAccept: application/json, */*\r\n"
    "Content-Type: application/json\r\nAccept-Encoding: gzip\r\n\r\n"
)


@dataclass
class Subject:
    """A server under test, and what was seen of it.

    waits:  seconds from sent to answered, of each review
    cpu:    seconds that its threads ran for a review, of each round
    """

    name: str
    port: int
    process: subprocess.Popen[str]
    authorities: bytes
    waits: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def ran(self) -> float:
        """Seconds of CPU that all its threads have had (/proc/PID/task/TID/schedstat, nanoseconds)."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text().split()[0]) for each in tasks) / 1e9

    def memory(self) -> dict[str, float]:
        """MB resident, and MB when what is shared with others is divided among them."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
        return {each: kilobytes[each] / 1024 for each in ("Rss", "Pss")}


class Connections:
    """Kept connections to one server, as many as it takes."""

    def __init__(self, subject: Subject) -> None:
        self._port = subject.port
        self._tls = ssl.create_default_context(cadata=subject.authorities.decode())
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, request: bytes) -> bytes:
        """The body of the answer."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            host = tls.service_names("podrate", SYSTEM)[0]
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls, server_hostname=host)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise LabError(f"the server answered {head.splitlines()[0]!r}")
        length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.split(b":")[1]))
        self._idle.append((reader, writer))
        return body


async def load(subject: Subject, connections: Connections, rate: float, seconds: float, *, warm: bool = False) -> None:
    """`rate` reviews a second, and what they were like; nothing is noted of those that only warm up."""
    body = _REVIEW.read_bytes()
    request = _HEAD.format(len(body)).encode() + body
    loop = asyncio.get_running_loop()

    async def one(due: float) -> None:
        await asyncio.sleep(due - loop.time())
        sent = time.perf_counter()  # the loop's own time is in milliseconds, and so are its timers
        answer = json.loads(await connections.post(request))
        if not answer["response"]["allowed"]:
            raise LabError("a review was not allowed")
        if not warm:
            subject.waits.append(time.perf_counter() - sent)

    before, begin = subject.ran(), loop.time() + 0.05
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            group.create_task(one(begin + number / rate))
    if not warm:
        subject.cpu.append((subject.ran() - before) / int(rate * seconds))


@contextmanager
def webhook(plane: ControlPlane, directory: Path) -> Iterator[tuple[Subject, float]]:
    """The real one, pinned, and the seconds that it took from its start to ready."""
    plane.install()
    own = ["--self-signed", "--service=podrate", f"--namespace={SYSTEM}", "--secret=podrate-tls"]
    command = [sys.executable, "-m", "webhook", "--loader-image=example/loader:1", "--port=0", "--health-port=0", *own]
    environment = os.environ | {"KUBECONFIG": str(plane.account())}
    log = directory / "log"
    with log.open("w") as output:
        began = time.monotonic()
        process = _pinned([*command, "--configuration=podrate"], output, environment)
    try:
        while '"event":"ready"' not in log.read_text():
            if process.poll() is not None or time.monotonic() > began + 30:
                raise LabError(f"the webhook did not become ready: {log.read_text()}")
            time.sleep(0.01)
        ready = time.monotonic() - began
        port = json.loads(log.read_text().splitlines()[0])["port"]
        kept = plane.get("-n", SYSTEM, "secret", "podrate-tls")["data"]
        bundle = base64.b64decode(kept["ca.crt"])
        yield Subject("webhook", port, process, bundle), ready
    finally:
        process.kill()
        process.wait()


@contextmanager
def floor(directory: Path) -> Iterator[Subject]:
    """bench.floor, pinned."""
    authority = tls.new_authority()
    leaf = tls.issue(authority, tls.service_names("podrate", SYSTEM))
    files = directory / "floor.crt", directory / "floor.key"
    for file, content in zip(files, (leaf.certificate, leaf.key), strict=True):
        file.write_bytes(content)
    process = _pinned([sys.executable, "-m", "bench.floor", *map(str, files)], subprocess.PIPE, os.environ)
    try:
        port = int(process.stdout.readline()) if process.stdout else 0
        yield Subject("floor", port, process, authority.certificate)
    finally:
        process.kill()
        process.communicate()


def _pinned(command: list[str], output: IO[str] | int, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    pinned = ["taskset", "--cpu-list", str(_SERVER_CPU), *command]
    return subprocess.Popen(pinned, stdout=output, text=True, env=environment, cwd=Path(__file__).parents[1])


def main() -> int:
    """Measure and print. 2 and one line when this machine can't."""
    parser = argparse.ArgumentParser(prog="python -m bench.webhook", allow_abbrev=False)
    parser.add_argument("--rate", type=float, default=200, help="reviews a second (default: %(default)g)")
    parser.add_argument("--rounds", type=int, default=40, help="of each, in turns (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each round (default: %(default)g)")
    options = parser.parse_args()
    try:
        require("taskset")
        with terminable():
            _measure(options.rate, options.rounds, options.seconds)
    except (LabError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


def _measure(rate: float, rounds: int, seconds: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with control_plane(directory) as plane, webhook(plane, directory) as (ours, ready), floor(directory) as least:
            os.sched_setaffinity(0, {_LOAD_CPU})
            turns = [(each, Connections(each)) for each in (ours, least)]
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                for subject, connections in turns:
                    runner.run(load(subject, connections, rate, 1, warm=True))
                for _ in range(rounds):
                    for subject, connections in turns:
                        runner.run(load(subject, connections, rate, seconds))
            _print(rate, [ours, least], ready)


def _print(rate: float, subjects: list[Subject], ready: float) -> None:
    print(f"{rate:g} reviews/s over TLS, one process on one CPU, {len(subjects[0].waits)} reviews each, in turns")
    print(f"{'':10}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}{'CPU us':>10}")
    for each in subjects:
        hundredths = statistics.quantiles(each.waits, n=100)
        times = "".join(f"{1e3 * value:10.2f}" for value in (hundredths[49], hundredths[98], max(each.waits)))
        print(f"{each.name:10}{times}{statistics.median(each.cpu) * 1e6:10.0f}")
    memory = ", ".join(f"{value:.0f} MB {kind}" for kind, value in subjects[0].memory().items())
    ratios = [ours / least for ours, least in zip(subjects[0].cpu, subjects[1].cpu, strict=True)]
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"CPU by the floor's, round by round: {ratio}; start to ready: {ready:.2f} s; {memory}")


if __name__ == "__main__":
    sys.exit(main())
