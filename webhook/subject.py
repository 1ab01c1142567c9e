"""What a request is about, as metrics and the log name it. Whatever is odd in the object is left out."""

from typing import NamedTuple

from webhook.request import AdmissionRequest
from webhook.workload import WORKLOADS

_KINDS = {("", "pods"): "Pod", ("", "bindings"): "Binding", ("", "namespaces"): "Namespace"}
_KINDS |= {resource: kind for resource, (kind, _) in WORKLOADS.items()}


class Subject(NamedTuple):
    """The object of a request.

    kind:   one of a few: "Pod", "Deployment", ..., or "other"
    name:   or the beginning of one that the API server has yet to make up
    owner:  who controls it, "ReplicaSet/web-5d9c"; "" if nobody does
    """

    kind: str
    name: str
    owner: str


def subject(request: AdmissionRequest) -> Subject:
    """Of what `request` is."""
    resource = request["resource"]
    kind = _KINDS.get((resource["group"], resource["resource"]), "other")
    name, owner = request.get("name") or "", ""
    raw = request.get("object")
    metadata = raw.get("metadata") if isinstance(raw, dict) else None
    if isinstance(metadata, dict):
        beginning, owners = metadata.get("generateName"), metadata.get("ownerReferences")
        if not name and isinstance(beginning, str):
            name = beginning
        for each in owners if isinstance(owners, list) else ():
            if isinstance(each, dict) and each.get("controller") is True:
                parts = each.get("kind"), each.get("name")
                owner = "/".join(part for part in parts if isinstance(part, str))
                break
    return Subject(kind, name, owner)
