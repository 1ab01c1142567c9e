"""A limit, and the annotation that carries it from the webhook to the loader.

This module is resident in every limited pod: it imports only what it can't do without.
"""

from _json import make_scanner  # json.loads without json, which takes 1.3 MB

from bandwidth.invalid import Invalid

MIN_RATE = 1_000  # bit/s
MAX_RATE = 1_000_000_000_000  # bit/s: what the data path's arithmetic is tested to

MIN_BURST = 1_000_000  # ns: below it are the kernel's own timers
MAX_BURST = 10_000_000_000  # ns: a longer one is a limit that nobody meets
MAX_QUEUED_RATE = 17_000_000_000  # bit/s: what libnl can tell the ingress queue's tbf, as a C int of bytes/s

# The annotation that the webhook writes and the loader reads. Nobody else writes it: a value that a user
# sets is overwritten from the user's keys.
ANNOTATION = "podrate.io/limit"

_VERSION = 1
_ALLOWED = (
    f"a JSON object with v={_VERSION}; egress, ingress in bit/s from {MIN_RATE} to {MAX_RATE}; "
    f"burst in ns from {MIN_BURST} to {MAX_BURST}; ingress_queue"
)
_EXAMPLE = '{"v":1,"egress":10000000,"ingress":10000000}'


class Limit:
    """What one pod or cgroup is held to.

    egress, ingress:  the rates in bit/s; None is no limit in that direction
    burst:            how much may pass at once after silence, as the time in ns that it takes at the rate; None is
                      the data path's own choice
    ingress_queue:    whether TCP that arrives above the ingress rate waits rather than be dropped

    A plain class: `dataclasses` and `typing` would cost each loader a megabyte.
    """

    __slots__ = ("burst", "egress", "ingress", "ingress_queue")

    def __init__(
        self,
        egress: int | None = None,
        ingress: int | None = None,
        burst: int | None = None,
        ingress_queue: bool = False,
    ) -> None:
        for direction, rate in (("egress", egress), ("ingress", ingress)):
            # bool is an int to Python, never to a person.
            if rate is not None and (type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE):
                raise Invalid(direction, rate, "not a rate in bit/s", f"{MIN_RATE} to {MAX_RATE}", "10000000")
        if burst is not None and (type(burst) is not int or not MIN_BURST <= burst <= MAX_BURST):
            raise Invalid("burst", burst, "not a time in ns", f"{MIN_BURST} to {MAX_BURST}", "20000000")
        if type(ingress_queue) is not bool:
            raise Invalid("ingress_queue", ingress_queue, "neither true nor false", "true or false", "true")
        if ingress_queue and ingress is None:
            raise Invalid("ingress_queue", ingress_queue, "without an ingress rate", "true beside ingress", "true")
        self.egress = egress
        self.ingress = ingress
        self.burst = burst
        self.ingress_queue = ingress_queue

    def fields(self) -> dict[str, int | None]:
        """By the names that they have in the annotation, in its order."""
        return {name: getattr(self, name) for name in _FIELDS}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limit) and self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(tuple(self.fields().values()))

    def __repr__(self) -> str:
        return f"Limit({', '.join(f'{name}={value}' for name, value in self.fields().items())})"


_FIELDS = ("egress", "ingress", "burst", "ingress_queue")


def encode(limit: Limit) -> str:
    """The annotation's value: compact JSON, versioned, one form per limit. What is not set is left out."""
    fields = {"v": _VERSION, **limit.fields()}
    set_ = {key: value for key, value in fields.items() if value is not None and value is not False}
    return "{" + ",".join(f'"{key}":{str(value).lower()}' for key, value in set_.items()) + "}"


class _Json:
    """What json.JSONDecoder tells the scanner in C that is behind it."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def _parse(text: str) -> object:
    """json.loads(text), but for StopIteration where it found nothing."""
    text = text.strip(" \t\n\r")
    value, end = make_scanner(_Json)(text, 0)  # type: ignore[arg-type]
    if end != len(text):
        raise ValueError(text)
    return value


def decode(text: str, where: str = ANNOTATION) -> Limit:
    """The limit in an annotation's value. Strict: a field that we don't know could be a limit that we don't keep."""

    def invalid(reason: str) -> Invalid:
        return Invalid(where, text, reason, _ALLOWED, _EXAMPLE)

    try:
        fields = _parse(text)
    # SystemError: before Python 3.12 the scanner has no JSONDecodeError to raise where nobody has imported json.
    except (ValueError, RecursionError, StopIteration, SystemError):
        raise invalid("not JSON" if text.strip() else "empty") from None
    if not isinstance(fields, dict):
        raise invalid("not a JSON object")
    version = fields.pop("v", None)
    if type(version) is not int or version != _VERSION:
        raise invalid("made by another version of podrate")
    if unknown := sorted(fields.keys() - set(_FIELDS)):
        raise invalid(f"unknown field {unknown[0]!a}")
    if None in fields.values():
        raise invalid("null is no value")
    try:
        return Limit(**fields)
    except Invalid as error:
        raise invalid(f"{error.where} is {error.reason}") from None
