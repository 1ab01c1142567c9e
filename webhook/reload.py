"""Keep the served certificate current, and the API server's trust in it, without a failed request.

A step reads what should be served and what the API server trusts, repairs the trust, and chooses the certificate.
Whatever changed, and whoever changed it, the next step finds out; a change of either object wakes it at once.
Why in this order: docs/decisions/0006-certificate-rotation.md.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence

from webhook import log, tls
from webhook.api import Api
from webhook.backoff import waits
from webhook.certificate import Source
from webhook.health import Health
from webhook.trust import Configuration, Entry
from webhook.unavailable import Conflict, Unavailable

PART = "certificate"  # as /readyz names us
# Seconds between two steps when nothing wakes us: files change unheard, and so does the end of an overlap.
_SHORTEST_PERIOD, _LONGEST_PERIOD = 0.5, 15.0


class Keeper:
    """The certificate in `context`, from `source`, as `configuration` trusts it (None: nobody is asked).

    overlap:  seconds in which every API server and every replica hears of a change. So long a new certificate is
              trusted before it is served in place of a good one.
    """

    def __init__(self, source: Source, configuration: Configuration | None, overlap: float) -> None:
        self.context = tls.server_context()
        self.loaded = asyncio.Event()  # something is served
        self.served: tls.Pair | None = None
        self._source = source
        self._configuration = configuration
        self._overlap = overlap
        self._since = 0.0  # when what is served was loaded
        self._next: tls.Pair | None = None  # trusted since _next_since, and not served yet
        self._next_since = 0.0
        self._wake = asyncio.Event()

    async def keep(self, health: Health) -> None:
        """Step for ever. `health` is told why we can't be trusted, when we can't."""
        pauses = waits()
        while True:
            self._wake.clear()
            try:
                leaf, distrust = await asyncio.to_thread(self._step)
                pauses = waits()
            except Conflict:
                continue  # another replica was quicker: see what it did
            except Unavailable as error:
                # Not unready, if we were ready before: that an API server is away says nothing of its trust in us.
                if PART in health.unready:
                    health.set(PART, str(error))
                wait = next(pauses)
                log.event("unavailable", part=PART, reason=str(error), again_in_seconds=int(wait))
                await asyncio.sleep(wait)
                continue
            if leaf != self.served:
                self._load(leaf)
            health.set(PART, distrust)
            # Whoever else writes what we write would do so again at once: twice a second is enough of that.
            await asyncio.sleep(_SHORTEST_PERIOD)
            await self._pause(min(_LONGEST_PERIOD, max(0.0, self._overlap / 4 - _SHORTEST_PERIOD)))

    def expiry(self) -> float:
        """When the served certificate ends, in seconds since 1970; NaN when there is none."""
        return self.served.x509.not_valid_after_utc.timestamp() if self.served else math.nan

    def wake(self) -> None:
        """Step now."""
        self._wake.set()

    def _load(self, leaf: tls.Pair) -> None:
        """Here, between two handshakes of the event loop: see tls.load."""
        tls.load(self.context, leaf)
        self.served, self._since = leaf, time.monotonic()
        self.loaded.set()
        until = f"{leaf.x509.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        log.event("certificate served", until=until, serial=f"{leaf.x509.serial_number:x}")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def _step(self) -> tuple[tls.Pair, str | None]:
        """The certificate to serve, and why the API server would not trust it. In a thread. Raises Unavailable."""
        # This before the source: our patch is refused if a replica that knew more was quicker.
        entries = self._configuration.read() if self._configuration else []
        settled = self._next is None and time.monotonic() - self._since > 2 * self._overlap
        leaf = self._source.leaf(settled)
        wanted = [self._source.authorities(entry.trusted) for entry in entries]
        if self._configuration and wanted != [entry.trusted for entry in entries]:
            entries = self._configuration.trust(wanted)
        chosen = self._choose(leaf, entries)
        return chosen, self._distrust(chosen, entries)

    def _choose(self, leaf: tls.Pair, entries: Sequence[Entry]) -> tls.Pair:
        """`leaf`, or for a while what is served already."""
        if self.served is None or leaf == self.served or self._distrust(self.served, entries):
            chosen = leaf
        elif self._distrust(leaf, entries):
            self._next = None
            return self.served
        else:
            if leaf != self._next:
                self._next, self._next_since = leaf, time.monotonic()
            waited = time.monotonic() - self._next_since >= self._overlap or not entries
            chosen = leaf if waited else self.served
        if chosen == leaf:
            self._next = None
        return chosen

    def _distrust(self, leaf: tls.Pair, entries: Sequence[Entry]) -> str | None:
        if self._configuration and not entries:
            return "the MutatingWebhookConfiguration has no webhooks"
        for entry in {(each.trusted, each.host): each for each in reversed(entries)}.values():
            if fault := tls.distrust(leaf, entry.trusted, entry.host):
                return f"the caBundle of {entry.name} does not trust our certificate for {entry.host}: {fault}"
        return None


def watch(api: Api, collection: str, name: str, wake: Callable[[], None]) -> None:
    """Call `wake` in this event loop when the object `name` of `collection` changes; by a thread of its own, for ever.

    `wake` may be called when nothing changed, and once for several changes.
    """
    loop = asyncio.get_running_loop()

    def listen() -> None:
        pauses = waits()
        while True:
            reason = ""
            try:
                # Without a version it begins with the object as it is now: nothing is missed between two watches.
                for event in api.watch(collection, "", fieldSelector=f"metadata.name={name}"):
                    pauses = waits()
                    if event["type"] != "BOOKMARK":
                        loop.call_soon_threadsafe(wake)
            except Unavailable as error:
                reason = str(error)
            except RuntimeError:  # the loop has ended
                return
            wait = next(pauses)
            if reason:
                log.event("watch ended", reason=reason, again_in_seconds=int(wait))
            time.sleep(wait)

    threading.Thread(target=listen, daemon=True, name=f"watch {name}").start()
