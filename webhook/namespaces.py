"""The cluster's Namespaces, kept current by watches.

A pod's limit depends on its Namespace's labels, and a review must not wait for the API server that waits for it. So
they are listed before we are ready, and watched from then on; what changes there is known here some milliseconds
later. A Namespace that the watch has not brought yet is asked for. While the API server is away the last known labels
hold: it sends no reviews meanwhile, and those of its peers are better answered by these than not.

What bounds their pods' resources is watched too, but only explains early what the API server would say later. So nobody
waits for it, and where it may not be read nothing else suffers.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from bandwidth.keys import ours
from webhook.api import Api, Object
from webhook.bounds import COLLECTIONS, Bounds
from webhook.collection import Collection
from webhook.namespace import ENFORCE, Namespace
from webhook.unavailable import NotFound

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
        self._bounds = Bounds()
        self._collection = Collection(api, COLLECTION, self)
        self.age = self._collection.age

    async def start(self) -> None:
        """List them, and watch them from then on. Raises Unavailable; nothing runs then."""
        version = await asyncio.to_thread(self._collection.list)
        self._collection.follow(version)
        for path, kind in COLLECTIONS.items():
            Collection(self._api, path, self._bounds.store(kind)).follow()

    async def get(self, name: str) -> Namespace:
        """As Namespaces says; without a wait, unless it is younger than what the watch has brought."""
        known = self._known.get(name)
        return known if known is not None else await asyncio.to_thread(self._ask, name)

    def whole(self, items: list[Object]) -> None:
        """As collection.Store says."""
        self._known = {each.name: each for each in map(self._parsed, items)}

    def put(self, item: Object) -> None:
        """As collection.Store says."""
        found = self._parsed(item)
        self._known[found.name] = found

    def drop(self, item: Object) -> None:
        """As collection.Store says."""
        self._known.pop(item["metadata"]["name"], None)

    def _ask(self, name: str) -> Namespace:
        try:
            found = self._parsed(self._api.get(f"{COLLECTION}/{name}", _DIRECT))
        except NotFound:
            return Namespace(name)
        # Not over what the watch may have brought meanwhile: that is newer.
        return self._known.setdefault(name, found)

    def _parsed(self, raw: Mapping[str, Any]) -> Namespace:
        """What we need of it: others keep kilobytes in their annotations."""
        metadata = raw["metadata"]
        labels, annotations = (
            {key: value for key, value in (metadata.get(place) or {}).items() if ours(key) or key == ENFORCE}
            for place in ("labels", "annotations")
        )
        name = metadata["name"]
        return Namespace(name, labels, annotations, self._bounds.of(name))
