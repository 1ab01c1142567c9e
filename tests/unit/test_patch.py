"""The patch, applied by a library that knows nothing of ours."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandwidth.invalid import Invalid
from bandwidth.limit import Limit, encode
from tests.webhook.reviews import pod, stored_pod
from webhook.patch import SAFE_TO_EVICT, annotate, inject
from webhook.pod import Pod
from webhook.request import Operation
from webhook.sidecar import VOLUMES, Settings, container

SETTINGS = Settings("example/loader:1")
LIMIT = Limit(10_000_000, 10_000_000)
OURS = {"podrate.io/limit": '{"v":1,"egress":10000000,"ingress":10000000}'}
LOCAL = {SAFE_TO_EVICT: "podrate-cgroup,podrate-state"}

SIDECAR: dict[str, Any] = {
    "name": "podrate",
    "image": "example/loader:1",
    "restartPolicy": "Always",
    "command": ["podrate", "sidecar"],
    "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
    "startupProbe": {
        "exec": {"command": ["podrate", "probe"]},
        "periodSeconds": 1,
        "timeoutSeconds": 10,
        "failureThreshold": 30,
    },
    "securityContext": {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "volumeMounts": [
        {"name": "podrate-cgroup", "mountPath": "/run/podrate/cgroup", "readOnly": True},
        {"name": "podrate-limit", "mountPath": "/run/podrate/limit", "readOnly": True},
        {"name": "podrate-state", "mountPath": "/run/podrate/state"},
    ],
}
ADDED_VOLUMES = [
    {"name": "podrate-cgroup", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}},
    {
        "name": "podrate-limit",
        "downwardAPI": {
            "items": [{"path": "limit", "fieldRef": {"fieldPath": "metadata.annotations['podrate.io/limit']"}}]
        },
    },
    {"name": "podrate-state", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
]


def patch_of(raw: dict[str, Any], settings: Settings = SETTINGS, limit: Limit = LIMIT) -> list[Operation]:
    """The patch; that it left the pod alone is checked on the way."""
    before = copy.deepcopy(raw)
    operations = inject(Pod(raw, "request.object"), encode(limit), settings)
    assert raw == before
    return operations


def inject_into(raw: dict[str, Any]) -> dict[str, Any]:
    after: dict[str, Any] = jsonpatch.apply_patch(raw, patch_of(raw))
    return after


def test_the_smallest_pod() -> None:
    before = pod({"podrate.io/bandwidth": "10M"})
    after = inject_into(before)
    assert after["metadata"] == before["metadata"] | {"annotations": OURS | LOCAL}
    assert after["spec"] == before["spec"] | {"initContainers": [SIDECAR], "volumes": ADDED_VOLUMES}


def test_the_patch_is_minimal() -> None:
    before = pod(annotations={"a/b": "c"}, initContainers=[{"name": "init"}], volumes=[{"name": "data"}])
    assert patch_of(before) == [
        {"op": "add", "path": "/metadata/annotations/podrate.io~1limit", "value": OURS["podrate.io/limit"]},
        {
            "op": "add",
            "path": "/metadata/annotations/cluster-autoscaler.kubernetes.io~1safe-to-evict-local-volumes",
            "value": LOCAL[SAFE_TO_EVICT],
        },
        {"op": "add", "path": "/spec/initContainers/0", "value": SIDECAR},
        *({"op": "add", "path": "/spec/volumes/-", "value": volume} for volume in ADDED_VOLUMES),
    ]


@pytest.mark.parametrize("empty", [None, [], {}], ids=str)
def test_parents_that_are_null_or_empty(empty: object) -> None:
    before = pod()
    if empty != []:
        before["metadata"]["annotations"] = empty
    if empty != {}:
        before["spec"] |= {"initContainers": empty, "volumes": empty}
    assert inject_into(before) == inject_into(pod())


def test_a_limit_by_hand_is_overwritten() -> None:
    after = inject_into(pod(annotations={"podrate.io/limit": "mine", "a": "b"}))
    assert after["metadata"]["annotations"] == {"a": "b"} | OURS | LOCAL


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("", "podrate-cgroup,podrate-state"),
        ("data", "data,podrate-cgroup,podrate-state"),
        ("data,podrate-state", "data,podrate-state,podrate-cgroup"),
        # The autoscaler does not trim.
        ("a, podrate-cgroup", "a, podrate-cgroup,podrate-cgroup,podrate-state"),
        ("podrate-state,podrate-cgroup", "podrate-state,podrate-cgroup"),
    ],
)
def test_volumes_that_are_safe_to_evict(written: str, becomes: str) -> None:
    after = inject_into(pod(annotations={SAFE_TO_EVICT: written}))
    assert after["metadata"]["annotations"][SAFE_TO_EVICT] == becomes


def test_annotation_keys_are_escaped_as_pointers() -> None:
    before = pod(annotations={"~a/b~1": "old", "gone/~": "x"})
    operations = annotate(Pod(before, "request.object"), {"~a/b~1": "new", "gone/~": None})
    assert jsonpatch.apply_patch(before, operations)["metadata"]["annotations"] == {"~a/b~1": "new"}


def test_nothing_to_remove_is_no_patch() -> None:
    for before in (pod(), pod(annotations={}), pod(annotations={"a": "b"})):
        assert annotate(Pod(before, "request.object"), {"podrate.io/limit": None}) == []


def test_what_an_api_server_stored_needs_nothing_more() -> None:
    stored = stored_pod()
    settings = Settings(stored["spec"]["initContainers"][0]["image"])
    assert patch_of(stored, settings) == []
    assert patch_of(stored, settings, Limit(egress=1_000_000)) == [
        {"op": "add", "path": "/metadata/annotations/podrate.io~1limit", "value": '{"v":1,"egress":1000000}'}
    ]


def test_a_sidecar_that_others_came_before_moves_to_the_front() -> None:
    after = inject_into(pod(initContainers=[{"name": "theirs"}, {"name": "init"}]))
    containers = after["spec"]["initContainers"]
    after["spec"]["initContainers"] = [containers[1], containers[2], containers[0]]
    assert patch_of(after) == [{"op": "move", "from": "/spec/initContainers/2", "path": "/spec/initContainers/0"}]
    assert inject_into(after)["spec"]["initContainers"] == containers


def altered(**fields: object) -> dict[str, Any]:
    """A patched pod whose sidecar has other fields; a list is added to."""
    after = inject_into(pod())
    sidecar = after["spec"]["initContainers"][0]
    for key, value in fields.items():
        sidecar[key] = [*sidecar.get(key, []), *value] if isinstance(value, list) else value
    return after


@pytest.mark.parametrize(
    "added",
    [
        {"env": [{"name": "AWS_REGION", "value": "x"}, {"name": "POD_UIDS", "value": "x"}]},
        {"env": [{"name": "HTTP_PROXY", "value": "x"}]},
        {"volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount"}]},
        {"image": "example/loader:1@sha256:" + "0" * 64},
        {"imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log"},
        {"resources": {"requests": {"cpu": "50m"}}},
    ],
    ids=str,
)
def test_what_the_api_server_and_other_injectors_add_is_not_ours_to_judge(added: dict[str, Any]) -> None:
    assert patch_of(altered(**added)) == []


@pytest.mark.parametrize(
    ("added", "field"),
    [
        ({"volumeMounts": [{"name": "mine", "mountPath": "/usr/bin"}]}, "volumeMounts"),
        ({"volumeMounts": [{"name": "mine", "mountPath": "/var/run/secrets/../../../usr/bin"}]}, "volumeMounts"),
        ({"volumeMounts": [{"name": "mine", "mountPath": "/run/podrate/limit"}]}, "volumeMounts"),
        ({"env": [{"name": "LD_PRELOAD", "value": "/mine.so"}]}, "env"),
        ({"env": [{"name": "PYTHONPATH", "value": "/mine"}]}, "env"),
        ({"env": [{"name": "PATH", "value": "/mine"}]}, "env"),
        ({"env": [{"name": "POD_UID", "value": "another"}]}, "env"),
        ({"envFrom": [{"configMapRef": {"name": "mine"}}]}, "envFrom"),
        ({"args": ["probe"]}, "args"),
        ({"workingDir": "/mine"}, "workingDir"),
        ({"lifecycle": {"postStart": {"exec": {"command": ["sh"]}}}}, "lifecycle"),
        ({"livenessProbe": {"exec": {"command": ["sh"]}}}, "livenessProbe"),
        ({"image": "example/loader:1@sha256:0"}, "image"),
        ({"image": "example/loader:1-mine"}, "image"),
        ({"terminationMessagePath": "/usr/bin/podrate"}, "terminationMessagePath"),
        ({"securityContext": SIDECAR["securityContext"] | {"seLinuxOptions": {"type": "spc_t"}}}, "securityContext"),
    ],
    ids=str,
)
def test_a_container_that_is_ours_and_more_is_not_ours(added: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid, match=f"differs from it in {field}\\. "):
        patch_of(altered(**added))


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "podrate"}]},
        {"initContainers": [{"name": "podrate"}]},
        {"initContainers": [SIDECAR, {"name": "podrate"}]},
        {"initContainers": [SIDECAR, SIDECAR]},
        {"initContainers": [SIDECAR], "containers": [SIDECAR]},
        {"ephemeralContainers": [{"name": "podrate"}]},
        {"volumes": [{"name": "podrate-limit", "emptyDir": {}}]},
        {"volumes": [*ADDED_VOLUMES, ADDED_VOLUMES[0]]},
        # The last of two variables by one name is the one that counts.
        {"initContainers": [SIDECAR | {"env": [SIDECAR["env"][0], {"name": "POD_UID", "value": "another"}]}]},
    ],
    ids=str,
)
def test_our_names_are_ours(spec: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r'^spec\.\w+\[\d\]\.name: "podrate') as caught:
        patch_of(pod(**spec))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
@pytest.mark.parametrize("volume", [volume["name"] for volume in VOLUMES])
def test_our_volumes_are_mounted_by_nobody_else(kind: str, volume: str) -> None:
    """A pod may name a volume that it gets from us; the node's cgroup tree, writable, is not for its tenant."""
    raw = pod()
    raw["spec"].setdefault(kind, []).append({"name": "other", "volumeMounts": [{"name": volume, "mountPath": "/x"}]})
    with pytest.raises(Invalid, match=rf"^spec.{kind}\[\d\].volumeMounts: .*podrate's own"):
        patch_of(raw)


def changes(value: Any) -> Iterator[Any]:  # noqa: ANN401  JSON
    """`value` with one thing in it changed or taken away, for each thing in it."""
    match value:
        case dict():
            for key in value:
                yield {other: value[other] for other in value if other != key}
                yield from (value | {key: changed} for changed in changes(value[key]))
        case list():
            for index in range(len(value)):
                yield value[:index] + value[index + 1 :]
                yield from ([*value[:index], changed, *value[index + 1 :]] for changed in changes(value[index]))
        case bool():
            yield from (not value, int(value))
        case int():
            yield value + 1
        case str():
            yield value + "x"


def test_every_change_to_what_we_add_is_seen() -> None:
    added: list[tuple[str, int, dict[str, Any]]] = [("initContainers", 0, SIDECAR)]
    added += [("volumes", index, volume) for index, volume in enumerate(ADDED_VOLUMES)]
    seen = 0
    for field, index, ours in added:
        for changed in changes(ours):
            resources = changed.get("resources")  # an autoscaler may set others
            if changed.get("name") != ours["name"] or (resources is not None and resources != ours["resources"]):
                continue
            after = inject_into(pod())
            after["spec"][field][index] = changed
            with pytest.raises(Invalid):
                patch_of(after)
            seen += 1
    assert seen > 80


def test_pull_policy_is_set_when_the_operator_sets_it() -> None:
    assert "imagePullPolicy" not in container(SETTINGS)
    assert container(Settings("example/loader:1", "Always"))["imagePullPolicy"] == "Always"


def test_metrics_are_a_port_that_the_loader_knows_too() -> None:
    it = container(Settings("example/loader:1", metrics_port=9095))
    assert it["ports"] == [{"name": "podrate-metrics", "containerPort": 9095, "protocol": "TCP"}]
    assert {"name": "PODRATE_METRICS_PORT", "value": "9095"} in it["env"]
    assert "ports" not in container(SETTINGS)


@pytest.mark.parametrize("host_network", [False, True])
def test_only_a_pod_with_a_network_of_its_own_has_metrics(host_network: bool) -> None:
    settings = Settings("example/loader:1", metrics_port=9095)
    raw = pod(hostNetwork=host_network)
    patched = jsonpatch.apply_patch(raw, patch_of(raw, settings))
    assert ("ports" in patched["spec"]["initContainers"][0]) is not host_network
    assert patch_of(patched, settings) == []


# Pods of any shape: fields that we never heard of, everywhere.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=5)
UNKNOWN = st.dictionaries(NAMES, JSON, max_size=3)


def objects() -> st.SearchStrategy[Any]:
    named = st.builds(lambda unknown, name: unknown | {"name": name}, UNKNOWN, NAMES)
    return st.none() | st.lists(named, max_size=3)


ANNOTATIONS = st.none() | st.dictionaries(st.text() | st.just(SAFE_TO_EVICT), st.text(), max_size=3)
PODS = st.builds(
    lambda unknown, metadata, spec, annotations, containers, inits, volumes: (
        {"kind": "Pod"}
        | unknown
        | {"metadata": metadata | {"annotations": annotations}}
        | {"spec": spec | {"containers": containers, "initContainers": inits, "volumes": volumes}}
    ),
    *(UNKNOWN, UNKNOWN, UNKNOWN, ANNOTATIONS, objects(), objects(), objects()),
)


@given(PODS)
def test_patching_twice_is_patching_once(before: dict[str, Any]) -> None:
    assert patch_of(inject_into(before)) == []


@given(PODS)
def test_all_that_was_there_is_there_as_it_was(before: dict[str, Any]) -> None:
    after = inject_into(before)
    annotations = after["metadata"]["annotations"]
    assert annotations.pop("podrate.io/limit") == OURS["podrate.io/limit"]
    written = (before["metadata"]["annotations"] or {}).get(SAFE_TO_EVICT)
    assert annotations[SAFE_TO_EVICT] == (f"{written},{LOCAL[SAFE_TO_EVICT]}" if written else LOCAL[SAFE_TO_EVICT])
    if written is None:
        del annotations[SAFE_TO_EVICT]
    else:
        annotations[SAFE_TO_EVICT] = written
    assert after["spec"]["initContainers"].pop(0) == SIDECAR
    assert [after["spec"]["volumes"].pop() for _ in VOLUMES] == ADDED_VOLUMES[::-1]
    # Ours taken out again, the pod is what it was, byte for byte: no field lost, none changed, none in another place.
    assert json.dumps(without_empties(after)) == json.dumps(without_empties(before))


def without_empties(raw: dict[str, Any]) -> dict[str, Any]:
    """`raw` with null for the empty parents that we may have made."""
    it = copy.deepcopy(raw)
    it["metadata"]["annotations"] = it["metadata"]["annotations"] or None
    it["spec"]["initContainers"] = it["spec"]["initContainers"] or None
    it["spec"]["volumes"] = it["spec"]["volumes"] or None
    return it
