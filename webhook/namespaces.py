"""The cluster's Namespaces, kept current by a watch.

A pod's limit depends on its Namespace's labels, and a review must not wait for the API server that waits for it. So
they are listed before we are ready, and watched from then on; what changes there is known here some milliseconds
later. A Namespace that the watch has not brought yet is asked for. While the API server is away the last known labels
hold: it sends no reviews meanwhile, and those of its peers are better answered by these than not.
"""

import asyncio
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from bandwidth.keys import ours
from webhook import log
from webhook.api import Api
from webhook.backoff import waits
from webhook.namespace import ENFORCE, Namespace
from webhook.unavailable import Gone, NotFound, Unavailable

COLLECTION = "/api/v1/namespaces"
_DIRECT = 2.0  # seconds: the API server waits 5 for our whole answer


class Namespaces(Protocol):
    """Where a review's Namespace comes from."""

    async def get(self, name: str) -> Namespace:
        """The Namespace `name`; one that says nothing when there is none. Raises Unavailable."""


class Nowhere:
    """Outside of a cluster: every Namespace says nothing."""

    async def get(self, name: str) -> Namespace:
        """As Namespaces says."""
        return Namespace(name)


class Watched:
    """The Namespaces of the cluster of `api`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, Namespace] = {}
        self._heard = math.nan  # when the API server last said something of them

    async def start(self) -> None:
        """List them, and watch them from then on. Raises Unavailable; nothing runs then."""
        version = await asyncio.to_thread(self._list)
        threading.Thread(target=self._follow, args=[version], daemon=True, name="watch namespaces").start()

    async def get(self, name: str) -> Namespace:
        """As Namespaces says; without a wait, unless it is younger than what the watch has brought."""
        known = self._known.get(name)
        return known if known is not None else await asyncio.to_thread(self._ask, name)

    def age(self) -> float:
        """Seconds since the API server last said something, at most a minute while the watch is alive; NaN at first."""
        return time.monotonic() - self._heard

    def _ask(self, name: str) -> Namespace:
        try:
            found = _parsed(self._api.get(f"{COLLECTION}/{name}", _DIRECT))
        except NotFound:
            return Namespace(name)
        # Not over what the watch may have brought meanwhile: that is newer.
        return self._known.setdefault(name, found)

    def _list(self) -> str:
        items, version = self._api.list(COLLECTION)
        self._known = {each.name: each for each in map(_parsed, items)}
        self._heard = time.monotonic()
        return version

    def _follow(self, version: str) -> None:
        """Watch for ever, in a thread."""
        pauses = waits()
        while True:
            try:
                version = version or self._list()
                for event in self._api.watch(COLLECTION, version):
                    version, pauses = self._take(event), waits()
            except Gone:  # what happened meanwhile is only to be had as the whole
                version = ""
            except (Unavailable, KeyError, TypeError, AttributeError) as error:
                reason = str(error)
                if not isinstance(error, Unavailable):  # an event that makes no sense: the whole anew
                    version, reason = "", f"an event that makes no sense: {error!r}"
                wait = next(pauses)
                log.event("watch ended", reason=reason, again_in_seconds=int(wait))
                time.sleep(wait)

    def _take(self, event: Mapping[str, Any]) -> str:
        """Note what an event of the watch says; returns the version to go on from."""
        self._heard = time.monotonic()
        raw = event["object"]
        if event["type"] == "DELETED":
            self._known.pop(raw["metadata"]["name"], None)
        elif event["type"] != "BOOKMARK":
            found = _parsed(raw)
            self._known[found.name] = found
        version: str = raw["metadata"]["resourceVersion"]
        return version


def _parsed(raw: Mapping[str, Any]) -> Namespace:
    """What we need of it: others keep kilobytes in their annotations."""
    metadata = raw["metadata"]
    kept = [
        {key: value for key, value in (metadata.get(place) or {}).items() if ours(key) or key == ENFORCE}
        for place in ("labels", "annotations")
    ]
    return Namespace(metadata["name"], *kept)
