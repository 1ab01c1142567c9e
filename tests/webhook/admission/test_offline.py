"""`podrate check` beside the API server: of the same manifest both say the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bandwidth.limit import decode
from tests.webhook.admission.asking import ASKS, CREATE, DENIED, limit_of
from tests.webhook.conftest import Webhook
from tests.webhook.control_plane import ControlPlane
from tests.webhook.reviews import pod
from tests.webhook.test_check import check
from tests.webhook.test_templates import KINDS, workload

NAMESPACES = ("default", "capped", "fast", "safe", "misspelt")
METADATA: tuple[tuple[dict[str, str], dict[str, str]], ...] = (
    ({}, {}),
    (ASKS, {}),
    ({"podrate.io/egress": "1k"}, {"podrate.io/burst": "20ms"}),
    ({"podrate.io/ingress": "20G"}, {"podrate.io/inject": "once"}),
    ({"podrate.io/inject": "false"}, {}),
    ({"podrate.io/inject": "true"}, {}),
    ({}, {"podrate.io/bandwith": "1M"}),
    ({}, {"kubernetes.io/egress-bandwidth": "10M"}),
    ({}, {"podrate.io/limit": "{}"}),
)
SPECS: tuple[dict[str, Any], ...] = ({}, {"hostUsers": False}, {"volumes": [{"name": "podrate-state", "emptyDir": {}}]})


@pytest.fixture(scope="module")
def namespaces(plane: ControlPlane, webhook: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the cluster, one of which was labelled while we were away."""
    plane.service.ports.remove(webhook.port)
    plane.service.disconnect()
    plane.kubectl("create", "namespace", "misspelt")
    plane.kubectl("label", "namespace", "misspelt", "podrate.io/bandwith=1M")
    plane.kubectl("create", "serviceaccount", "default", "-n", "misspelt")
    plane.service.ports.append(webhook.port)
    plane.service.disconnect()
    file = tmp_path_factory.mktemp("offline") / "namespaces.json"
    file.write_text(plane.kubectl("get", "namespaces", "-o", "json"))
    return file


@pytest.mark.parametrize("name", NAMESPACES)
def test_it_says_what_the_api_server_says(plane: ControlPlane, namespaces: Path, tmp_path: Path, name: str) -> None:
    manifests = [_pod(*metadata, **spec) for metadata in METADATA for spec in SPECS]
    manifests += [_workload(kind, *metadata, **SPECS[1]) for metadata in METADATA[:3] for kind in ("Job", "CronJob")]
    manifests += [_workload("Deployment", *metadata, **spec) for metadata in METADATA for spec in SPECS[:2]]
    for number, manifest in enumerate(manifests):
        manifest["metadata"]["name"] = f"web-{number}"
        (tmp_path / f"{number}.json").write_text(json.dumps(manifest))
    files = [str(tmp_path / f"{number}.json") for number in range(len(manifests))]
    done = check(f"--namespace={name}", f"--namespace-file={namespaces}", "--kubernetes-annotations", "--json", *files)
    ours = json.loads(done.stdout)
    assert len(ours) == len(manifests)
    differ = []
    for file, manifest, said in zip(files, manifests, ours, strict=True):
        theirs = plane.kubectl("-n", name, *CREATE[:-1], file, check=False)
        if name == "safe" and "violates PodSecurity" in theirs:  # the test's pods themselves, whoever asks
            continue
        denied = re.search(DENIED.format("[a-z.-]+"), theirs)
        if denied:
            answer = ["rejected", theirs[denied.end() :].rstrip("\n")]
            same = answer == [said["result"], said["message"]]
        else:
            answer = ["allowed", *re.findall(r"^Warning: podrate: (.*)$", theirs, re.M)]
            same = answer == [said["result"], *said["warnings"]]
            if manifest["kind"] == "Pod":
                limit = limit_of(json.JSONDecoder().raw_decode(theirs, theirs.index("{\n"))[0])
                answer.append(limit or "none")
                fields = decode(limit).fields() if limit else {}
                same = same and {key: value for key, value in fields.items() if value is not None} == (
                    said["limit"] or {}
                )
        if not same:
            differ.append((manifest, said, answer))
    assert not differ, "\n".join(map(str, differ))


def _pod(labels: dict[str, str], annotations: dict[str, str], **spec: object) -> dict[str, Any]:
    it = pod(labels, annotations, **spec) | {"apiVersion": "v1", "kind": "Pod"}
    del it["metadata"]["namespace"]
    return it


def _workload(kind: str, labels: dict[str, str], annotations: dict[str, str], **spec: object) -> dict[str, Any]:
    group, _, _ = KINDS[kind]
    restarts = "Never" if group == "batch" else "Always"
    it = workload(kind, pod({"app": "web"} | labels, annotations, restartPolicy=restarts, **spec))
    it["apiVersion"] = f"{group}/v1"
    if kind == "CronJob":
        it["spec"]["schedule"] = "* * * * *"
    if kind == "Deployment":
        it["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    return it
