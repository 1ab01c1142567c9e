"""What a request is about, as metrics and the log name it. Whatever is odd in the object is left out."""

from typing import Any

from webhook.request import AdmissionRequest
from webhook.workload import WORKLOADS

_KINDS = {("", "pods"): "Pod", ("", "bindings"): "Binding", ("", "namespaces"): "Namespace"}
_KINDS |= {resource: kind for resource, (kind, _) in WORKLOADS.items()}


def kind(request: AdmissionRequest) -> str:
    """The object's kind, one of a few: "Pod", "Deployment", ..., or "other"."""
    resource = request["resource"]
    return _KINDS.get((resource["group"], resource["resource"]), "other")


def name(request: AdmissionRequest) -> str:
    """The object's name, or the beginning of one that the API server has yet to make up."""
    beginning = _metadata(request).get("generateName")
    return request.get("name") or (beginning if isinstance(beginning, str) else "")


def owner(request: AdmissionRequest) -> str:
    """Who controls the object, "ReplicaSet/web-5d9c"; "" if nobody does."""
    owners = _metadata(request).get("ownerReferences")
    for each in owners if isinstance(owners, list) else ():
        if isinstance(each, dict) and each.get("controller") is True:
            return f"{each.get('kind')}/{each.get('name')}"
    return ""


def _metadata(request: AdmissionRequest) -> dict[str, Any]:
    raw = request.get("object")
    metadata = raw.get("metadata") if isinstance(raw, dict) else None
    return metadata if isinstance(metadata, dict) else {}
