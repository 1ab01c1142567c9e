"""The process: reviews over TLS and probes in the clear, in one event loop, until SIGTERM."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import uvicorn

from webhook import app, log
from webhook.certificate import Source
from webhook.health import Health
from webhook.sidecar import Settings
from webhook.unavailable import Unavailable

# The API server drops an idle connection after 90 s (Go's default transport). It must be the first to do so: a POST
# that meets our close is not sent again, and a pod's creation fails.
_KEEP_ALIVE = 120
_FINISH = 10  # seconds that reviews under way have after SIGTERM; each has 5
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0  # seconds before the API server is asked again

_T = TypeVar("_T")


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers (there are two servers here) and with an event for its start."""

    def __init__(self, application: Any) -> None:  # noqa: ANN401  uvicorn's own
        super().__init__(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_FINISH,
            )
        )
        self.config.load()
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


async def serve(settings: Settings, source: Source, reviews_on: socket.socket, probes_on: socket.socket) -> None:
    """Serve on the two bound sockets until SIGTERM or SIGINT, then finish the reviews under way."""
    health, stop = Health(), asyncio.Event()
    reviews, probes = _Server(app.create(settings)), _Server(health)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as outer:
        outer.create_task(probes.serve([probes_on]))
        async with asyncio.TaskGroup() as inner:
            starting = inner.create_task(_start(inner, reviews, reviews_on, source, health))
            await stop.wait()
            log.event("stopping")
            health.unready = "stopping"
            starting.cancel()
            reviews.should_exit = True
        probes.should_exit = True


async def _start(
    tasks: asyncio.TaskGroup, reviews: _Server, listener: socket.socket, source: Source, health: Health
) -> None:
    """Bring `reviews` up, and say so: ready is who serves a certificate that the API server trusts."""
    reviews.config.ssl = await _insist(source.context, health)
    tasks.create_task(reviews.serve([listener]))
    await reviews.up.wait()
    await _insist(source.publish, health)
    health.unready = None
    log.event("ready", port=listener.getsockname()[1])


async def _insist(attempt: Callable[[], _T], health: Health) -> _T:
    """What `attempt` returns, called in a thread until it does not raise Unavailable. One line for each failure."""
    wait = _FIRST_WAIT
    while True:
        try:
            return await asyncio.to_thread(attempt)
        except Unavailable as error:
            health.unready = str(error)
            log.event("unavailable", reason=str(error), again_in_seconds=int(wait))
        await asyncio.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


def listen(port: int) -> socket.socket:
    """A socket bound to `port` (0: a free one) of every address, of both families where the machine has both.

    Raises OSError.
    """
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):  # no IPv6 here; a port in use is reported by the second attempt
        return socket.create_server(("", port))
