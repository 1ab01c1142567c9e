"""The process: reviews over TLS and probes in the clear, in one event loop, until SIGTERM."""

import asyncio
import contextlib
import gc
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import uvicorn

from webhook import log, reload
from webhook.backoff import waits
from webhook.health import Health
from webhook.metrics import Metrics
from webhook.reload import Keeper
from webhook.unavailable import Unavailable

# The API server drops an idle connection after 90 s (Go's default transport). It must be the first to do so: a POST
# that meets our close is not sent again, and a pod's creation fails.
_KEEP_ALIVE = 120
_FINISH = 10  # seconds that reviews under way have in the end; each has 5
_LONGEST_DRAIN = 20.0  # seconds; with _FINISH it fits the chart's terminationGracePeriodSeconds
_COLLECT_AFTER = 50_000  # objects, by default 700
_PART = "server"  # as /readyz names us


class Server(uvicorn.Server):
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
                proxy_headers=False,  # nobody asks who the client is
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_FINISH,
            )
        )
        self.config.load()
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: see `serve`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then `up` is set."""
        await super().startup(sockets)
        self.up.set()


class _Draining:
    """`application`, and once `draining` each answer asks its client to connect anew: by then to another replica.

    The API server keeps its connections, and they keep leading to us after the endpoints are withdrawn.
    """

    def __init__(self, application: Any) -> None:  # noqa: ANN401  ASGI's own
        self._application = application
        self._asked = 0.0  # when the last request came
        self.draining = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        if self.draining:
            self._asked = time.monotonic()
            send = _closing(send)
        await self._application(scope, receive, send)

    async def silence(self, seconds: float, hurry: asyncio.Event) -> None:
        """Drain until nothing has come for `seconds`; for _LONGEST_DRAIN at most, and no longer than to `hurry`.

        While requests come, some endpoint still names us, or a client has connections that it did not use for long: it
        would meet their end just when it does.
        """
        self.draining, self._asked = True, time.monotonic()
        end = self._asked + _LONGEST_DRAIN
        while not hurry.is_set() and (wait := min(self._asked + seconds, end) - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), wait)


def _closing(send: Any) -> Any:  # noqa: ANN401  ASGI's own
    """`send`, for an answer that is the last of its connection."""

    async def last(message: Any) -> None:  # noqa: ANN401
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    return last


async def serve(
    application: Any,  # noqa: ANN401  ASGI's own
    metrics: Metrics,
    keeper: Keeper,
    starts: Mapping[str, Callable[[], Awaitable[None]]],
    reviews_on: socket.socket,
    probes_on: socket.socket,
    drain: float,
) -> None:
    """Serve `application`, and `metrics` beside the probes, on the two bound sockets until SIGTERM or SIGINT.

    starts:  by part, what must have returned before we are ready; called again when it raises Unavailable
    drain:   seconds without a request that end it, after the signal: a client that has not heard of our end must not
             meet it. A second signal cuts them short. Then the reviews under way are finished.
    """
    health = Health(metrics, [_PART, reload.PART, *starts])
    stop, hurry = asyncio.Event(), asyncio.Event()
    draining = _Draining(application)
    reviews, probes = Server(draining), Server(health)
    reviews.config.ssl = keeper.context
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    async with asyncio.TaskGroup() as outer:
        outer.create_task(probes.serve([probes_on]))
        async with asyncio.TaskGroup() as inner:
            upkeep = [inner.create_task(_insist(part, start, health)) for part, start in starts.items()]
            upkeep.append(inner.create_task(keeper.keep(health)))
            upkeep.append(inner.create_task(_open(inner, reviews, reviews_on, keeper, health)))
            await stop.wait()
            health.set(_PART, "stopping")
            for task in upkeep:
                task.cancel()
            if reviews.up.is_set():
                await draining.silence(drain, hurry)
            reviews.should_exit = True
        probes.should_exit = True


async def _open(
    tasks: asyncio.TaskGroup, reviews: Server, listener: socket.socket, keeper: Keeper, health: Health
) -> None:
    """Bring `reviews` up, once there is a certificate."""
    await keeper.loaded.wait()
    tasks.create_task(reviews.serve([listener]))
    await reviews.up.wait()
    # What is here now stays: the collector need not look at all of it again while a review waits. Nor at each review,
    # which makes a thousand objects and no cycles to speak of.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)
    health.set(_PART, None)


async def _insist(part: str, start: Callable[[], Awaitable[None]], health: Health) -> None:
    """Call `start` until it does not raise Unavailable. One line for each failure."""
    for wait in waits():
        try:
            await start()
            health.set(part, None)
            return
        except Unavailable as error:
            health.set(part, str(error))
            log.event("unavailable", part=part, reason=str(error), again_in_seconds=int(wait))
        await asyncio.sleep(wait)


def listen(port: int) -> socket.socket:
    """A socket bound to `port` (0: a free one) of every address, of both families where the machine has both.

    Raises OSError.
    """
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):  # no IPv6 here; a port in use is reported by the second attempt
        return socket.create_server(("", port))
