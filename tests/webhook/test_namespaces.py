"""The Namespaces as a real API server tells of them."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest

from bandwidth.limit import Limit
from bandwidth.policy import pod_limit
from tests.webhook.control_plane import ControlPlane
from webhook.api import Api, Object
from webhook.namespace import Namespace
from webhook.namespaces import Nowhere, Watched
from webhook.unavailable import Unavailable

T = TypeVar("T")
ENFORCE = "pod-security.kubernetes.io/enforce"


@pytest.fixture(scope="module", autouse=True)
def quiet_in_the_end() -> Iterator[None]:
    """The watches outlive their tests, and would print that the API server has gone."""
    yield
    mock.patch("webhook.collection.log").start()


def api(kubeconfig: Path) -> Api:
    with mock.patch.dict(os.environ, KUBECONFIG=str(kubeconfig)):
        return Api()


def run(what: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(what)


@pytest.fixture
def watched(plane: ControlPlane) -> Watched:
    it = Watched(api(plane.kubeconfig))
    assert math.isnan(it.age())
    run(it.start())
    return it


def eventually(watched: Watched, name: str, expected: Namespace) -> None:
    deadline = time.monotonic() + 5
    while run(watched.get(name)) != expected:
        assert time.monotonic() < deadline, run(watched.get(name))
        time.sleep(0.01)


def test_it_is_right_from_the_first_and_follows(plane: ControlPlane) -> None:
    plane.kubectl("create", "namespace", "shop")
    plane.kubectl("label", "namespace", "shop", "podrate.io/bandwidth=10M", f"{ENFORCE}=restricted", "team=a")
    plane.kubectl("annotate", "namespace", "shop", "note=kilobytes")
    watched = Watched(api(plane.kubeconfig))
    run(watched.start())
    assert watched.age() < 1
    shop = run(watched.get("shop"))
    assert shop == Namespace("shop", {"podrate.io/bandwidth": "10M", ENFORCE: "restricted"}), "and nothing else is kept"
    assert pod_limit(Namespace().rules, shop.rules).limit == Limit(10_000_000, 10_000_000)
    plane.kubectl("label", "namespace", "shop", "podrate.io/bandwidth=20M", "--overwrite")
    eventually(watched, "shop", Namespace("shop", {"podrate.io/bandwidth": "20M", ENFORCE: "restricted"}))
    plane.kubectl("label", "namespace", "shop", "podrate.io/bandwidth-", f"{ENFORCE}-")
    eventually(watched, "shop", Namespace("shop"))


def test_one_that_is_younger_than_the_watch_is_asked_for(plane: ControlPlane, watched: Watched) -> None:
    with mock.patch.object(watched._collection, "_take"):  # a watch that lags
        plane.kubectl("create", "namespace", "young")
        plane.kubectl("label", "namespace", "young", "podrate.io/egress=1M")
        assert run(watched.get("young")) == Namespace("young", {"podrate.io/egress": "1M"})
    assert run(watched.get("none")) == Namespace("none")


def test_the_last_known_holds_while_the_api_server_is_away(plane: ControlPlane, watched: Watched) -> None:
    plane.process.send_signal(signal.SIGSTOP)
    try:
        assert run(watched.get("default")) == Namespace("default")
        began = time.monotonic()
        with pytest.raises(Unavailable, match="get /api/v1/namespaces/other: "):
            run(watched.get("other"))
        assert time.monotonic() - began < 3
    finally:
        plane.process.send_signal(signal.SIGCONT)
    plane.kubectl("label", "namespace", "default", "podrate.io/egress=1M")
    eventually(watched, "default", Namespace("default", {"podrate.io/egress": "1M"}))
    plane.kubectl("label", "namespace", "default", "podrate.io/egress-")


class Forgotten(Api):
    """Whose first watch is told that its version is too old. Of events the API server itself remembers nothing."""

    first = True

    def watch(self, path: str, version: str, timeout: float = 240, **query: str) -> Iterator[Object]:
        if self.first:
            self.first = False
            return super().watch("/api/v1/namespaces/default/events", "1", timeout)
        return super().watch(path, version, timeout, **query)


def test_it_lists_again_when_its_version_is_forgotten(plane: ControlPlane) -> None:
    plane.kubectl("label", "namespace", "default", "podrate.io/ingress=1M")
    plane.forget(plane.get("namespace", "default")["metadata"]["resourceVersion"])
    with mock.patch.dict(os.environ, KUBECONFIG=str(plane.kubeconfig)):
        watched = Watched(Forgotten())
    with mock.patch.object(watched._collection, "list", wraps=watched._collection.list) as listed:
        run(watched.start())
        deadline = time.monotonic() + 10
        while listed.call_count < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    plane.kubectl("label", "namespace", "default", "podrate.io/ingress-")
    eventually(watched, "default", Namespace("default"))


def test_an_event_that_makes_no_sense_does_not_end_the_watch(plane: ControlPlane) -> None:
    watched = Watched(api(plane.kubeconfig))
    real = watched._api.watch
    nonsense = {"type": "ADDED", "object": None}
    with mock.patch.object(watched._api, "watch", side_effect=lambda *_: iter([nonsense])):  # of each collection
        run(watched.start())
        time.sleep(0.5)
    watched._api.watch = real  # type: ignore[method-assign]
    plane.kubectl("label", "namespace", "default", "podrate.io/ingress=1M")
    eventually(watched, "default", Namespace("default", {"podrate.io/ingress": "1M"}))
    plane.kubectl("label", "namespace", "default", "podrate.io/ingress-")


def test_without_an_api_server_to_list_it_does_not_start(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {token: t}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
    )
    with pytest.raises(Unavailable):
        run(Watched(api(kubeconfig)).start())


def test_outside_of_a_cluster_a_namespace_says_nothing() -> None:
    assert run(Nowhere().get("shop")) == Namespace("shop")
