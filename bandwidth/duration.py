"""Durations: the grammar of `podrate.io/burst: 20ms`.

    duration = ( digits [ "." digits ] unit ) { digits [ "." digits ] unit }
    unit     = "ns" | "us" | "ms" | "s"

The forms of Go's time.ParseDuration that are legal label values, less the units that no burst is long enough for.
"""

import re

from bandwidth.invalid import Invalid
from bandwidth.limit import MAX_BURST, MIN_BURST

ALLOWED = "a number and s, ms, us or ns, from 1ms to 10s"
EXAMPLE = "20ms"

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_PART = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ns|us|ms|s)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")
_LONGEST = 63  # a label value's own limit

_NUMBER = r"(?P<number>[0-9]+(?:\.[0-9]+)?)"
# What people write instead, and what they are likely to have meant. The first that matches is told.
_MISTAKES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\s*"), "it is empty"),
    (re.compile(r"[-\u2212].*", re.DOTALL), "a time can't be negative"),
    (re.compile(_NUMBER), "the unit is missing; did you mean {number}ms?"),
    (re.compile(rf"{_NUMBER}m"), "m means minutes; did you mean {number}ms?"),
    (
        re.compile(rf"{_NUMBER}(?P<unit>ns|us|ms|s)", re.IGNORECASE),
        "units are lower case; did you mean {number}{unit}?",
    ),
    (re.compile(rf"{_NUMBER}[\u00b5\u03bc]s"), "a label can't have that sign; did you mean {number}us?"),
    (re.compile(rf"{_NUMBER}(?:msecs?|millis?|milliseconds?)"), "write milliseconds as ms; did you mean {number}ms?"),
    (re.compile(rf"{_NUMBER}(?:secs?|seconds?)"), "write seconds as s; did you mean {number}s?"),
    (re.compile(rf"{_NUMBER}(?:h|d|min|hours?|minutes?)"), "it is above the most, 10s"),
    (
        re.compile(rf"{_NUMBER}[kKMGT]?i?(?:[bB]|bit|[bB]ytes)?"),
        "a burst is a time, for how long the full rate may be exceeded at once, not a size",
    ),
    (re.compile(r"\s*\S+\s+.*|\s+\S.*", re.DOTALL), "it has a space; write it without, for example 20ms"),
)


def parse_duration(text: object, where: str) -> int:
    """The duration in ns, rounded down to a whole one. `where` names the key or option in the error."""

    def invalid(reason: str) -> Invalid:
        return Invalid(where, text, reason, ALLOWED, EXAMPLE)

    if not isinstance(text, str):
        raise invalid("a burst must be a string")
    if len(text) > _LONGEST:
        raise invalid(f"it is longer than {_LONGEST} characters")
    if not _DURATION.fullmatch(text):
        raise invalid(_mistake(text))
    total = 0  # in ns / scale
    scale = 10**_LONGEST
    for whole, fraction, unit in _PART.findall(text):
        total += int(whole + fraction) * scale // 10 ** len(fraction) * _UNITS[unit]
    duration: int = total // scale
    if duration < MIN_BURST:
        raise invalid("it is below the least, 1ms")
    if duration > MAX_BURST:
        raise invalid("it is above the most, 10s")
    return duration


def format_duration(ns: int) -> str:
    """The shortest text of one unit that `parse_duration` reads back as exactly `ns`."""
    texts = []
    for unit, size in _UNITS.items():
        whole, rest = divmod(ns, size)
        fraction = f"{rest:0{len(str(size)) - 1}d}".rstrip("0") if rest else ""
        texts.append(f"{whole}{'.' + fraction if fraction else ''}{unit}")
    return min(texts, key=len)


def _mistake(text: str) -> str:
    for pattern, hint in _MISTAKES:
        if match := pattern.fullmatch(text):
            groups = match.groupdict()
            return hint.format(number=groups.get("number"), unit=(groups.get("unit") or "").lower())
    return "it is not a duration"
