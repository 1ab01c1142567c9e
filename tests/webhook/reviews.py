"""Pods and AdmissionReviews as the API server sends them."""

import base64
import json
from pathlib import Path
from typing import Any

import jsonpatch

UID = "705ab4f5-6393-11e8-b7cc-42010a800002"
PODS = {"group": "", "version": "v1", "resource": "pods"}
# What a Kubernetes 1.36 API server stored for a pod that we patched: with its defaults, and with the mount that its
# ServiceAccount plugin adds to our container too.
STORED_POD = Path(__file__).with_name("stored_pod.json")


def pod(labels: object = None, annotations: object = None, **spec: object) -> dict[str, Any]:
    """A pod of one container. `spec` adds to its spec, or replaces."""
    metadata: dict[str, Any] = {"name": "web", "namespace": "default"}
    metadata |= {key: it for key, it in (("labels", labels), ("annotations", annotations)) if it is not None}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "web", "image": "nginx"}]} | spec,
    }


def stored_pod() -> dict[str, Any]:
    it: dict[str, Any] = json.loads(STORED_POD.read_text())
    return it


def review(new: object = None, old: object = None, operation: str | None = None, **request: object) -> dict[str, Any]:
    """The review of a pod's creation, or of its update when there is an `old` one."""
    asked: dict[str, Any] = {
        "uid": UID,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": PODS,
        "operation": operation or ("CREATE" if old is None else "UPDATE"),
        "namespace": "default",
        "object": new,
        "oldObject": old,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked | request}


def patched(before: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    """`before` after the patch of `response`, applied by a library that knows nothing of ours."""
    assert response["patchType"] == "JSONPatch"
    operations = json.loads(base64.b64decode(response["patch"], validate=True))
    after: dict[str, Any] = jsonpatch.apply_patch(before, operations)
    return after
