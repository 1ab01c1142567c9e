"""Rates: the grammar of `podrate.io/bandwidth: 10M`.

    rate    = number [ prefix ] [ "bit" | "bps" ]  |  number ( "e" | "E" ) digits
    number  = digits [ "." digits ]
    prefix  = "k" | "M" | "G" | "T"                (powers of 1000)
            | "Ki" | "Mi" | "Gi" | "Ti"            (powers of 1024)

Always bits per second. The forms are those of a Kubernetes quantity (apimachinery/pkg/api/resource) that can
be meant as a rate, all of them legal label values. Kubernetes' own parser is far laxer: it takes `10m` (10
milli) and `-5M`, and its Python twin takes `inf` and `1_000`.
"""

import re

from bandwidth.invalid import Invalid
from bandwidth.limit import MAX_RATE, MIN_RATE

ALLOWED = "a number and k, M, G or T (or Ki, Mi, Gi, Ti) in bits per second, from 1k to 1T"
EXAMPLE = "10M"

_PREFIXES = {"": 1}
_PREFIXES |= {letter: 1000**power for power, letter in enumerate("kMGT", start=1)}
_PREFIXES |= {letter + "i": 1024**power for power, letter in enumerate("KMGT", start=1)}

# [0-9], not \d: \d takes every script's digits.
_NUMBER = r"(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]+))?"
_RATE = re.compile(rf"{_NUMBER}(?:[eE](?P<exponent>[0-9]{{1,2}})|(?P<prefix>k|M|G|T|Ki|Mi|Gi|Ti)?(?:bit|bps)?)")
_LONGEST = 63  # a label value's own limit

_BYTES = re.compile(rf"{_NUMBER}(?P<prefix>[kKMGT]?)(?P<binary>i?)(?:B|B/s|Bps|Byte|Bytes|bytes|byte)")
# What people write instead, and what they are likely to have meant. The first that matches is told.
_MISTAKES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\s*"), "it is empty"),
    (re.compile(r"[-\u2212].*", re.DOTALL), "a rate can't be negative"),
    (re.compile(rf"{_NUMBER}m(?:bit|bps)?"), "m means milli; did you mean {number}M?"),
    (
        re.compile(rf"{_NUMBER}K(?:bit|bps)?"),
        "K is not a prefix here; did you mean {number}k (1000) or {number}Ki (1024)?",
    ),
    (
        re.compile(rf"{_NUMBER}(?P<prefix>[gt])(?:bit|bps)?"),
        "prefixes are case sensitive; did you mean {number}{upper}?",
    ),
    (re.compile(rf"{_NUMBER}[kKMGT]?[bB]"), "write bits as bit or nothing, for example 10Mbit or 10M"),
    (re.compile(r"\s*[0-9]\S*\s+\S.*|\s+\S.*|\S+\s+", re.DOTALL), "it has a space; write it without, for example 10M"),
    (re.compile(r"[+]?(?:inf|infinity|nan|unlimited|none|max)", re.IGNORECASE), "for no limit, leave the key out"),
    (re.compile(r"[0-9][0-9_,]*[_,][0-9_,]*\S*"), "digits can't be grouped; write 1000000 or 1M"),
    (re.compile(r"\.[0-9]+\S*"), "write a digit before the point, for example 0.5M"),
    (re.compile(rf"{_NUMBER}[kKmMgGtT]?i?(?:bits?/s|b/s|bits)"), "write the unit as bit or bps, for example 10Mbit"),
    (re.compile(r"[0-9]+%"), "a share of a link is not a rate; write bits per second"),
)


def parse_rate(text: object, where: str) -> int:
    """The rate in bits per second, rounded down to a whole one. `where` names the key or option in the error."""

    def invalid(reason: str) -> Invalid:
        return Invalid(where, text, reason, ALLOWED, EXAMPLE)

    if not isinstance(text, str):
        raise invalid("a rate must be a string")
    if len(text) > _LONGEST:
        raise invalid(f"it is longer than {_LONGEST} characters")
    match = _RATE.fullmatch(text)
    if match is None:
        raise invalid(_mistake(text))
    fraction = match["fraction"] or ""
    multiple = 10 ** int(match["exponent"]) if match["exponent"] else _PREFIXES[match["prefix"] or ""]
    rate: int = int(match["whole"] + fraction) * multiple // 10 ** len(fraction)
    if rate == 0:
        raise invalid("a rate of 0 would stop all traffic; the least is 1k, and for no limit leave the key out")
    if rate < MIN_RATE:
        raise invalid(f"{rate} bit/s is below the least, 1k")
    if rate > MAX_RATE:
        raise invalid("it is above the most, 1T")
    return rate


def format_rate(rate: int) -> str:
    """The shortest text that `parse_rate` reads back as exactly `rate` bits per second."""
    candidates = [str(rate)]
    for prefix, multiple in _PREFIXES.items():
        if prefix and rate >= multiple:
            text = f"{rate / multiple:.15g}"
            if "e" not in text and parse_rate(text + prefix, "rate") == rate:
                candidates.append(text + prefix)
    return min(candidates, key=lambda text: (len(text), text.endswith("i")))


def _mistake(text: str) -> str:
    if match := _BYTES.fullmatch(text):
        number, prefix, scale = _number(match), match["prefix"], 8
        bits = f"{float(number) * scale:.15g}"
        return f"rates are in bits, B means bytes; did you mean {bits}{_bits_prefix(prefix, match['binary'])}?"
    for pattern, hint in _MISTAKES:
        if match := pattern.fullmatch(text):
            groups = match.groupdict()
            return hint.format(
                number=_number(match) if "whole" in groups else "", upper=(groups.get("prefix") or "").upper()
            )
    return "it is not a rate"


def _number(match: re.Match[str]) -> str:
    fraction = match["fraction"]
    return match["whole"] + (f".{fraction}" if fraction else "")


def _bits_prefix(prefix: str, binary: str) -> str:
    if binary:
        return prefix.upper() + "i"
    return "k" if prefix == "K" else prefix
