"""The five calls, answered by a real API server."""

import os
import threading
import time
from pathlib import Path
from unittest import mock

import pytest

from tests.webhook.control_plane import ControlPlane
from webhook.api import Api, Object
from webhook.unavailable import Conflict, Gone, NotFound, Unavailable

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_objects_by_path(api: Api) -> None:
    made = api.create(MAPS, config_map("a", x="1"))
    assert made == api.get(f"{MAPS}/a")
    with pytest.raises(Conflict, match=f'post {MAPS}: 409 configmaps "a" already exists'):
        api.create(MAPS, config_map("a"))
    with pytest.raises(NotFound, match=f'get {MAPS}/none: 404 configmaps "none" not found'):
        api.get(f"{MAPS}/none")
    with pytest.raises(Unavailable, match=f"post {MAPS}: 422 ConfigMap .* Invalid value"):
        api.create(MAPS, config_map("A"))
    found, _ = api.list(MAPS, fieldSelector="metadata.name=a")
    assert [each["data"] for each in found] == [{"x": "1"}]


def test_a_patch_on_condition(api: Api) -> None:
    version = api.create(MAPS, config_map("b", x="1"))["metadata"]["resourceVersion"]
    merged = api.patch(f"{MAPS}/b", {"metadata": {"resourceVersion": version}, "data": {"y": "2"}})
    assert merged["data"] == {"x": "1", "y": "2"}
    assert merged["metadata"]["managedFields"][0]["manager"] == "podrate"
    stale = {"metadata": {"resourceVersion": version}, "data": {"y": "3"}}
    with pytest.raises(Conflict):
        api.patch(f"{MAPS}/b", stale)
    with pytest.raises(Conflict):
        api.patch(f"{MAPS}/b", [{"op": "add", "path": "/metadata/resourceVersion", "value": version}])
    assert api.patch(f"{MAPS}/b", [{"op": "remove", "path": "/data/x"}])["data"] == {"y": "2"}


def test_an_object_is_made_unless_it_is_there(api: Api) -> None:
    empty = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    assert "data" not in api.ensure(f"{MAPS}/c", empty)
    api.patch(f"{MAPS}/c", {"data": {"x": "1"}})
    assert api.ensure(f"{MAPS}/c", empty)["data"] == {"x": "1"}


def test_a_watch_tells_of_changes_as_they_come(api: Api) -> None:
    _, version = api.list(MAPS)
    events: list[tuple[float, Object]] = []

    def listen() -> None:
        events.extend((time.monotonic(), each) for each in api.watch(MAPS, version, timeout=4))

    listener = threading.Thread(target=listen)
    began = time.monotonic()
    listener.start()
    time.sleep(1)
    api.create(MAPS, config_map("d"))
    api.patch(f"{MAPS}/d", {"data": {"x": "1"}})
    listener.join(20)
    assert 3 < time.monotonic() - began < 9  # it ends by itself
    assert [each["type"] for _, each in events if each["type"] != "BOOKMARK"] == ["ADDED", "MODIFIED"]
    assert events[0][0] - began < 2  # and does not wait for the end


def test_a_watch_without_a_version_begins_with_what_there_is(api: Api) -> None:
    api.create(MAPS, config_map("e"))
    for event in api.watch(MAPS, "", timeout=10, fieldSelector="metadata.name=e"):
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "e")
        break


def test_a_watch_from_long_ago(plane: ControlPlane, api: Api) -> None:
    plane.forget(api.create(MAPS, config_map("f"))["metadata"]["resourceVersion"])
    events = "/api/v1/namespaces/default/events"  # of these the API server itself remembers nothing
    with pytest.raises(Gone, match=f"watch {events}: 410 .* too old"):
        list(api.watch(events, "1", timeout=5))


def test_nobody_to_ask(tmp_path: Path) -> None:
    with mock.patch.dict(os.environ, clear=True), pytest.raises(Unavailable, match="the service account of this pod: "):
        Api()
    broken = tmp_path / "kubeconfig"
    broken.write_text("{")
    with mock.patch.dict(os.environ, KUBECONFIG=str(broken)), pytest.raises(Unavailable, match="KUBECONFIG: "):
        Api()
