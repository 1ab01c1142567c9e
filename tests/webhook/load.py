"""A steady load of reviews through the API server: pods that ask for a limit, created as a dry run."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.webhook.reviews import pod
from webhook.api import Api
from webhook.unavailable import Unavailable

_AHEAD = 8  # requests under way at most


UNLIMITED = "not limited"


class Failure(NamedTuple):
    """A request that was not answered with our annotation: when it was made, and when it ended, in seconds; and why."""

    made: float
    ended: float
    reason: str


class Load:
    """What came of it so far.

    done:      requests that were answered
    failures:  those that were not answered with our annotation
    slowest:   seconds
    """

    def __init__(self, namespace: str) -> None:
        self._path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
        self.done = 0
        self.failures: list[Failure] = []
        self.slowest = 0.0
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since it began, as in the failures."""
        return time.monotonic() - self._began

    def one(self, api: Api, number: int) -> None:
        """Create one pod, by a name of its own."""
        wanted: dict[str, Any] = pod({"podrate.io/bandwidth": "10M"})
        wanted["metadata"] |= {"name": f"load-{number}", "namespace": None}
        began, reason = time.monotonic(), ""
        try:
            made = api.create(self._path, wanted, timeout=20)
            if "podrate.io/limit" not in made["metadata"].get("annotations", {}):
                reason = UNLIMITED
        except Unavailable as error:
            reason = str(error)
        ended = time.monotonic()
        if reason:
            self.failures.append(Failure(began - self._began, ended - self._began, reason))
        self.slowest = max(self.slowest, ended - began)
        self.done += 1


@contextlib.contextmanager
def load(api: Api, rate: float, namespace: str = "default") -> Iterator[Load]:
    """`rate` reviews a second until the end of the block, at even intervals."""
    it, end = Load(namespace), threading.Event()

    def run() -> None:
        with ThreadPoolExecutor(_AHEAD) as threads:
            due, number = time.monotonic(), 0
            while not end.is_set():
                threads.submit(it.one, api, number)
                number, due = number + 1, due + 1 / rate
                time.sleep(max(0.0, due - time.monotonic()))

    runner = threading.Thread(target=run)
    runner.start()
    try:
        yield it
    finally:
        end.set()
        runner.join()
