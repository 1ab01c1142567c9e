"""The AdmissionReview, admission.k8s.io/v1: what the API server posts, and what it reads back.

Two families of errors never mix: a bad *object* is the user's, and answered by `rejected`; a bad *request* is the
caller's, and raises BadRequest.
"""

import binascii
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Literal, NotRequired, TypedDict, cast

import orjson

from webhook.request import (
    AdmissionRequest,
    BadRequest,
    GroupVersionResource,
    Operation,
    json_type,
    optional,
    required,
)
from webhook.sidecar import Constant

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"

# etcd takes 1.5 MiB an object; an UPDATE carries two, in JSON that is somewhat longer than what etcd stores.
MAX_BYTES = 4 * 1024 * 1024

# RFC 1123's label, as the API server demands of a Namespace's name. Whoever reaches our port could send another, and it
# becomes part of the path by which we ask the API server, with our rights.
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Status(TypedDict):
    """Why not: the part of meta/v1 Status that a webhook may set."""

    code: int
    reason: str
    message: str


class AdmissionResponse(TypedDict):
    """The answer; `patch` is a JSON Patch in base64."""

    uid: str
    allowed: bool
    patchType: NotRequired[Literal["JSONPatch"]]
    patch: NotRequired[str]
    status: NotRequired[Status]
    warnings: NotRequired[list[str]]
    auditAnnotations: NotRequired[dict[str, str]]


def parse(body: bytes) -> AdmissionRequest:
    """The request in the body of a POST. Raises BadRequest; the objects in it are not looked at."""
    try:
        review = orjson.loads(body)
    except orjson.JSONDecodeError as error:  # not UTF-8 too, a number beyond all bounds, more than 1024 levels
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(review, dict):
        raise BadRequest(f"the body must be an {KIND}, not {json_type(review)}")
    for key, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        if review.get(key) != expected:
            raise BadRequest(f"{key} must be {expected}")
    request = required(review, "request", dict)
    if not required(request, "uid", str, "request"):
        raise BadRequest("request.uid must not be empty")
    required(request, "operation", str, "request")
    resource = required(request, "resource", dict, "request")
    for key in GroupVersionResource.__required_keys__:
        required(resource, key, str, "request.resource")
    for key in ("subResource", "namespace", "name"):
        optional(request, key, str, "request")
    if (namespace := request.get("namespace")) and not _NAMESPACE.fullmatch(namespace):
        raise BadRequest("request.namespace must be a Namespace's name")
    return cast(AdmissionRequest, request)


def allowed(
    uid: str, patch: Sequence[Operation] = (), warnings: Sequence[str] = (), audit: Mapping[str, str] | None = None
) -> bytes:
    """The answer yes, with a patch unless there is nothing to change; `warnings` are for whoever asked."""
    response = AdmissionResponse(uid=uid, allowed=True)
    if patch:
        written = orjson.dumps(patch, _constant, orjson.OPT_PASSTHROUGH_SUBCLASS)
        response["patchType"], response["patch"] = "JSONPatch", binascii.b2a_base64(written, newline=False).decode()
    if warnings:
        response["warnings"] = list(warnings)
    if audit:
        response["auditAnnotations"] = dict(audit)
    return _review(response)


def rejected(
    uid: str,
    line: str,
    audit: Mapping[str, str] | None = None,
    code: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY,
) -> bytes:
    """The answer no. `line` is what the user reads, after the name of the webhook.

    No `details`: kubectl then prints their kind and name in place of the message (checkErr in kubectl's util).
    """
    reason = "ServiceUnavailable" if code == HTTPStatus.SERVICE_UNAVAILABLE else "Invalid"  # of meta/v1 StatusReason
    status = Status(code=code, reason=reason, message=line)
    response = AdmissionResponse(uid=uid, allowed=False, status=status)
    if audit:
        response["auditAnnotations"] = dict(audit)
    return _review(response)


def _constant(value: object) -> object:
    if not isinstance(value, Constant):
        raise TypeError(f"{type(value)} in a patch")
    if value.encoded is None:
        value.encoded = orjson.Fragment(orjson.dumps(value))
    return value.encoded


def _review(response: AdmissionResponse) -> bytes:
    return orjson.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": response})
