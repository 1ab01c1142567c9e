"""A collection of the API server's, kept current by a watch: listed, then followed for ever in a thread."""

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from webhook import log
from webhook.api import Api, Object
from webhook.backoff import waits
from webhook.unavailable import Gone, Unavailable


class Store(Protocol):
    """What is kept of it. Called from one thread at a time."""

    def whole(self, items: list[Object]) -> None:
        """These are all that there are."""

    def put(self, item: Object) -> None:
        """`item` is new, or has changed."""

    def drop(self, item: Object) -> None:
        """`item` is gone."""


class Collection:
    """The objects at `path` of `api`, such as /api/v1/namespaces, for `store`."""

    def __init__(self, api: Api, path: str, store: Store) -> None:
        self.api = api
        self._path = path
        self._store = store
        self._heard = math.nan  # when the API server last said something of them

    def list(self) -> str:
        """Read all of them; returns the version to follow from. Blocks. Raises Unavailable."""
        items, version = self.api.list(self._path)
        self._store.whole(items)
        self._heard = time.monotonic()
        return version

    def follow(self, version: str = "") -> None:
        """Watch from `version`, in a thread that nobody waits for at the end; "" is for all that there is."""
        name = f"watch {self._path.rpartition('/')[2]}"
        threading.Thread(target=self._follow, args=[version], daemon=True, name=name).start()

    def age(self) -> float:
        """Seconds since the API server last said something, at most a minute while the watch is alive; NaN at first."""
        return time.monotonic() - self._heard

    def _follow(self, version: str) -> None:
        pauses = waits()
        while True:
            try:
                version = version or self.list()
                for event in self.api.watch(self._path, version):
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
            self._store.drop(raw)
        elif event["type"] != "BOOKMARK":
            self._store.put(raw)
        version: str = raw["metadata"]["resourceVersion"]
        return version
