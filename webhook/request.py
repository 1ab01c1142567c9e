"""What is asked for: an AdmissionRequest, and what its objects are read with.

The TypedDicts say which of its fields we use; the raw dict is what is kept. Nothing here knows of the wire.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, NotRequired, TypedDict, TypeVar


class GroupVersionResource(TypedDict):
    """What is asked for: pods are group "", version "v1", resource "pods"."""

    group: str
    version: str
    resource: str


class AdmissionRequest(TypedDict):
    """The question. `object` is absent on DELETE, `oldObject` on CREATE; `name` is empty with generateName."""

    uid: str
    resource: GroupVersionResource
    subResource: NotRequired[str | None]
    operation: str
    namespace: NotRequired[str | None]
    name: NotRequired[str | None]
    object: NotRequired[Any]
    oldObject: NotRequired[Any]


# One operation of a JSON Patch (RFC 6902). Not a class, for `from` is no name in Python.
Operation = TypedDict(
    "Operation",
    {"op": Literal["add", "remove", "move"], "path": str, "value": NotRequired[object], "from": NotRequired[str]},
)


class BadRequest(ValueError):
    """A request that no API server sends: the HTTP status of the answer, and its one line."""

    def __init__(self, line: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(line)
        self.status = status


_JSON_TYPES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
_T = TypeVar("_T")


def an_object(value: object, where: str) -> dict[str, Any]:
    """`value`, which must be a JSON object; `where` is its path in the review. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"{where} must be an object, not {json_type(value)}")
    return value


def required(parent: Mapping[str, Any], key: str, kind: type[_T], where: str = "") -> _T:
    """parent[key], which must be of `kind`. `where` is the parent's path in the review. Raises BadRequest."""
    value = parent.get(key)
    if not isinstance(value, kind):
        path = f"{where}.{key}" if where else key
        raise BadRequest(f"{path} must be {_JSON_TYPES[kind]}, not {json_type(value)}")
    return value


def optional(parent: Mapping[str, Any], key: str, kind: type[_T], where: str) -> _T | None:
    """As `required`, but None when it is missing or null: Kubernetes' encoder writes null for some empty fields."""
    value = parent.get(key)
    return value if value is None or isinstance(value, kind) else required(parent, key, kind, where)


def json_type(value: object) -> str:
    """What a person calls the JSON type of `value`, with its article."""
    return _JSON_TYPES.get(type(value), "a number")
