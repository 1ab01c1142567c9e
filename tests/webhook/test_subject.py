"""How metrics and the log name what a request is about."""

import json
from typing import Any

from tests.webhook.reviews import pod, review
from tests.webhook.test_templates import KINDS
from webhook.request import AdmissionRequest
from webhook.review import parse
from webhook.subject import Subject, subject


def request(new: object, **more: object) -> AdmissionRequest:
    return parse(json.dumps(review(new, **more)).encode())  # type: ignore[arg-type]


def test_the_kind_is_one_of_a_few() -> None:
    kinds = {kind: (group, resource) for kind, (group, resource, _) in KINDS.items()}
    kinds |= {"Pod": ("", "pods"), "Namespace": ("", "namespaces"), "Binding": ("", "bindings")}
    for kind, (group, resource) in kinds.items():
        about = {"group": group, "version": "v1", "resource": resource}
        assert subject(request(pod(), resource=about)).kind == kind
    about = {"group": "x", "version": "v1", "resource": "pods"}
    assert subject(request(pod(), resource=about)).kind == "other"


def test_a_name_may_have_only_begun() -> None:
    made: dict[str, Any] = {"metadata": {"generateName": "web-"}}
    assert subject(request(made)).name == "web-"
    assert subject(request(made, name="web-x7k2p")).name == "web-x7k2p"


def test_the_owner_is_who_controls_it() -> None:
    owners = [{"kind": "Group", "name": "all"}, {"kind": "Deployment", "name": "web", "controller": True}]
    assert subject(request({"metadata": {"ownerReferences": owners}})).owner == "Deployment/web"
    assert subject(request({"metadata": {"ownerReferences": owners[:1]}})).owner == ""


def test_what_is_odd_is_left_out() -> None:
    odds: list[Any] = [None, 1, "x", [], {}, {"metadata": None}, {"metadata": []}, {"metadata": {"generateName": 1}}]
    for odd in odds:
        assert subject(request(odd)) == Subject("Pod", "", "")
    deep: Any = None
    for _ in range(950):  # what a reader of JSON takes, and str() does not
        deep = [deep]
    nested = [{"controller": True, "kind": deep, "name": {}}]
    for owners in (1, "x", [1, None], [{"controller": "true"}], {"controller": True}, nested):
        assert subject(request({"metadata": {"ownerReferences": owners}})).owner == ""
