"""The podrate.io/ keys on an object's metadata: which there are, and what they say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from bandwidth.duration import parse_duration
from bandwidth.invalid import Invalid, quote
from bandwidth.limit import ANNOTATION
from bandwidth.rate import parse_rate

PREFIX = "podrate.io/"
BANDWIDTH = PREFIX + "bandwidth"
EGRESS = PREFIX + "egress"
INGRESS = PREFIX + "ingress"
BURST = PREFIX + "burst"
INGRESS_QUEUE = PREFIX + "ingress-queue"
INJECT = PREFIX + "inject"
# On a pod, and as its pods' defaults on a Namespace.
KEYS = (BANDWIDTH, EGRESS, INGRESS, BURST, INGRESS_QUEUE, INJECT)

MAX_BANDWIDTH = PREFIX + "max-bandwidth"
MAX_EGRESS = PREFIX + "max-egress"
MAX_INGRESS = PREFIX + "max-ingress"
# On a Namespace only.
CAPS = (MAX_BANDWIDTH, MAX_EGRESS, MAX_INGRESS)

# Kubernetes' own annotations, for its CNI plugin `bandwidth`. They stand for ours where the operator says so.
KUBERNETES = {"kubernetes.io/egress-bandwidth": EGRESS, "kubernetes.io/ingress-bandwidth": INGRESS}

LONGEST = len(PREFIX) + 63  # characters of a key's name that the API server takes

ABOUT_THE_LIMIT = (BURST, INGRESS_QUEUE, INJECT)  # these ask for no limit by themselves
LIMITING = tuple(key for key in (*KEYS, *CAPS) if key not in ABOUT_THE_LIMIT)
EXAMPLES = dict.fromkeys((*KEYS, *CAPS), "10M") | {BURST: "20ms", INGRESS_QUEUE: '"true"', INJECT: '"true"'}


@dataclass(frozen=True, eq=False)
class Asked:
    """What one object's keys say, as they are written; `rate`, `burst` and the others read them, and raise Invalid.

    written:  the value of each key that is there
    names:    what to call it in an error: the key, or its path in the object
    """

    written: Mapping[str, object] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    _rates: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def limiting(self) -> list[str]:
        """The keys that ask for a limit, or cap one."""
        return [key for key in self.written if key in LIMITING]

    def rate(self, *keys: str) -> tuple[str, int] | None:
        """The first of `keys` that is there, and its rate in bit/s."""
        for key in keys:
            if key in self.written:
                if key not in self._rates:  # a decision asks for each several times
                    self._rates[key] = parse_rate(self.written[key], self.names[key])
                return key, self._rates[key]
        return None

    def burst(self) -> int | None:
        """The burst in ns."""
        return parse_duration(self.written[BURST], self.names[BURST]) if BURST in self.written else None

    def inject(self) -> str | None:
        """What INJECT says: "true", "false", or "once", for a loader that ends when the limit is in force."""
        return self._word(INJECT, ("true", "false", "once"))

    def ingress_queue(self) -> bool | None:
        """What INGRESS_QUEUE says."""
        word = self._word(INGRESS_QUEUE, ("true", "false"))
        return None if word is None else word == "true"

    def _word(self, key: str, words: tuple[str, ...]) -> str | None:
        return _parse_word(self.written[key], self.names[key], words) if key in self.written else None

    def check(self) -> None:
        """Read every value. Raises Invalid for the first bad one, in the order of KEYS."""
        for key in (*KEYS, *CAPS):
            if key == INJECT:
                self.inject()
            elif key == INGRESS_QUEUE:
                self.ingress_queue()
            elif key == BURST:
                self.burst()
            else:
                self.rate(key)


def ours(key: object) -> bool:
    """Whether `key` is below podrate.io/, in whatever case: as an annotation the API server takes PodRate.io/ too."""
    return isinstance(key, str) and key[: len(PREFIX)].lower() == PREFIX


def read(
    labels: Mapping[str, object],
    annotations: Mapping[str, object],
    where: str = "",
    known: tuple[str, ...] = KEYS,
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> Asked:
    """The keys in an object's labels and annotations; their values are not read yet.

    where:    the path of the metadata that holds them, for errors; "" for a pod's own, where the key says it all
    known:    the keys that may be there
    aliases:  foreign annotations that stand for a key of ours where none of ours speaks for that direction

    A key may stand as a label or as an annotation; as both only with one value. Raises Invalid for a key below
    podrate.io/ that is not known: a misspelt limit must not be a missing one.
    """
    written: dict[str, object] = {}
    names: dict[str, str] = {}

    def name(place: str, key: str) -> str:
        return f"{where}.{place}[{key}]" if where else key

    for place, metadata in (("labels", labels), ("annotations", annotations)):
        for key, value in metadata.items():
            if not ours(key):
                continue
            if key == ANNOTATION and place == "annotations":
                continue  # the webhook's own
            if key not in known:
                raise _unknown(name(place, key), key, value, known)
            if written.setdefault(key, value) != value:
                reason = f"the annotation disagrees with the label {quote(written[key])}"
                raise Invalid(name(place, key), value, reason, "one of the two", f"{key}: {EXAMPLES[key]}")
            names.setdefault(key, name(place, key))
    for alias, key in aliases.items():
        if alias in annotations and key not in written and BANDWIDTH not in written:
            written[key], names[key] = annotations[alias], name("annotations", alias)
    return Asked(written, names)


def _unknown(name: str, key: str, value: object, known: tuple[str, ...]) -> Invalid:
    if key in CAPS:
        reason = "this key is for a Namespace, whose pods it caps"
        return Invalid(name, value, reason, ", ".join(known), f"{BANDWIDTH}: 10M")
    # Of a key of megabytes, which the API server itself has not refused yet, the comparison takes half a second.
    short = len(key) <= LONGEST
    near = short and get_close_matches(key[len(PREFIX) :].lower(), [each.removeprefix(PREFIX) for each in known], n=1)
    reason = f"podrate has no such key; did you mean {PREFIX}{near[0]}?" if near else "podrate has no such key"
    return Invalid(name, value, reason, ", ".join(known), f"{BANDWIDTH}: 10M")


_MEANT = {
    "true": ("true", "yes", "y", "on", "1", "t", "enabled"),
    "false": ("false", "no", "n", "off", "0", "f", "disabled"),
    "once": ("once",),
}


def _parse_word(text: object, where: str, words: tuple[str, ...]) -> str:
    if isinstance(text, str) and text in words:
        return text
    plain = text.strip().lower() if isinstance(text, str) else ""
    meant = next((word for word in words if plain in _MEANT[word]), None)
    reason = f'did you mean "{meant}"?' if meant else f"it is neither {' nor '.join(words)}"
    quoted = [f'"{word}"' for word in words]
    allowed = f"{', '.join(quoted[:-1])} or {quoted[-1]}, in quotes, for a label is a string"
    raise Invalid(where, text, reason, allowed, '"false"')
