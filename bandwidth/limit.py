"""A limit, and the annotation that carries it from the webhook to the loader.

This module is resident in every limited pod: it imports only what it can't do without.
"""

import json

from bandwidth.invalid import Invalid

MIN_RATE = 1_000  # bit/s
MAX_RATE = 1_000_000_000_000  # bit/s: what the data path's arithmetic is tested to

# The annotation that the webhook writes and the loader reads. Nobody else writes it: a value that a user
# sets is overwritten from the user's keys.
ANNOTATION = "podrate.io/limit"

_VERSION = 1
_ALLOWED = f"a JSON object with v={_VERSION} and egress, ingress in bit/s from {MIN_RATE} to {MAX_RATE}"
_EXAMPLE = '{"v":1,"egress":10000000,"ingress":10000000}'


class Limit:
    """The rates of one pod or cgroup, in bits per second; None is no limit in that direction.

    A plain class: `dataclasses` and `typing` would cost each loader a megabyte.
    """

    __slots__ = ("egress", "ingress")

    def __init__(self, egress: int | None = None, ingress: int | None = None) -> None:
        for direction, rate in (("egress", egress), ("ingress", ingress)):
            if rate is None:
                continue
            # bool is an int to Python, never to a person.
            if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE:
                raise Invalid(direction, rate, "not a rate in bit/s", f"{MIN_RATE} to {MAX_RATE}", "10000000")
        self.egress = egress
        self.ingress = ingress

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limit) and (self.egress, self.ingress) == (other.egress, other.ingress)

    def __hash__(self) -> int:
        return hash((self.egress, self.ingress))

    def __repr__(self) -> str:
        return f"Limit(egress={self.egress}, ingress={self.ingress})"


def encode(limit: Limit) -> str:
    """The annotation's value: compact JSON, versioned, one form per limit. A direction without limit is left out."""
    fields = {"v": _VERSION, "egress": limit.egress, "ingress": limit.ingress}
    return json.dumps({key: value for key, value in fields.items() if value is not None}, separators=(",", ":"))


def decode(text: str, where: str = ANNOTATION) -> Limit:
    """The limit in an annotation's value. Strict: a field that we don't know could be a limit that we don't keep."""

    def invalid(reason: str) -> Invalid:
        return Invalid(where, text, reason, _ALLOWED, _EXAMPLE)

    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid("not JSON" if text.strip() else "empty") from None
    if not isinstance(fields, dict):
        raise invalid("not a JSON object")
    version = fields.pop("v", None)
    if type(version) is not int or version != _VERSION:
        raise invalid("made by another version of podrate")
    if unknown := sorted(fields.keys() - {"egress", "ingress"}):
        raise invalid(f"unknown field {unknown[0]!a}")
    if None in fields.values():
        raise invalid("null is not a rate")
    try:
        return Limit(**fields)
    except Invalid as error:
        raise invalid(f"{error.where} is {error.reason}") from None
