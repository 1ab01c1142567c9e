"""The podrate.io/ keys on an object's metadata, and the limit that they ask for."""

from collections.abc import Mapping
from difflib import get_close_matches

from bandwidth.invalid import Invalid
from bandwidth.limit import ANNOTATION, Limit
from bandwidth.rate import parse_rate

PREFIX = "podrate.io/"
BANDWIDTH = PREFIX + "bandwidth"
EGRESS = PREFIX + "egress"
INGRESS = PREFIX + "ingress"
KEYS = (BANDWIDTH, EGRESS, INGRESS)


def limit_of(labels: Mapping[str, object], annotations: Mapping[str, object]) -> Limit | None:
    """The limit that an object's labels and annotations ask for, or None when they ask for none.

    `egress` and `ingress` win over `bandwidth`, which sets both. A key may stand as a label or as an annotation;
    as both only with one value. Raises Invalid for the first bad value, and for a key below podrate.io/ that
    we don't know: a misspelt limit must not be a missing one.
    """
    asked: dict[str, object] = {}
    for kind, metadata in (("label", labels), ("annotation", annotations)):
        for key, value in metadata.items():
            if not isinstance(key, str) or not key.startswith(PREFIX):
                continue
            if key == ANNOTATION and kind == "annotation":
                continue  # the webhook's own
            if key not in KEYS:
                raise _unknown(key, value)
            if asked.setdefault(key, value) != value:
                raise Invalid(
                    key, value, f"the {kind} disagrees with the label {asked[key]!a}", "one of the two", f"{key}: 10M"
                )
    rates = {key: parse_rate(asked[key], key) for key in KEYS if key in asked}
    if not rates:
        return None
    both = rates.get(BANDWIDTH)
    return Limit(egress=rates.get(EGRESS, both), ingress=rates.get(INGRESS, both))


def _unknown(key: str, value: object) -> Invalid:
    near = get_close_matches(key, KEYS, n=1)
    reason = f"podrate has no such key; did you mean {near[0]}?" if near else "podrate has no such key"
    return Invalid(key, value, reason, ", ".join(KEYS), f"{BANDWIDTH}: 10M")
