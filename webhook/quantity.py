"""Kubernetes' quantities (apimachinery/pkg/api/resource): "100m" of cpu, "64Mi" of memory."""

import math
import re
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(n|u|m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,3})?")
_SCALES = {prefix: Decimal(1000) ** power for power, prefix in enumerate("num kMGTPE", start=-3)}
_SCALES |= {f"{prefix}i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", start=1)}


def quantities(raw: object) -> dict[str, str]:
    """Those of a map of resources that can be read: by a review nobody could do anything about the others."""
    written = raw if isinstance(raw, dict) else {}
    return {key: it for key, it in written.items() if isinstance(it, str) and _QUANTITY.fullmatch(it)}


def number(quantity: str) -> Decimal:
    """How much it is: of one from `quantities`, or from our own options."""
    match = _QUANTITY.fullmatch(quantity)
    amount, suffix = match.groups() if match else ("0", "")
    if suffix and suffix[1:] and suffix[0] in "eE":
        return Decimal(amount + suffix)
    return Decimal(amount) * _SCALES[suffix or " "]


def written(what: str, amount: Decimal, *, most: bool = False) -> str:
    """In the unit that people use for the resource `what`: no less than it is, or no more where it is the `most`."""
    whole = math.floor if most else math.ceil
    return f"{whole(amount * 1000)}m" if what.endswith("cpu") else f"{whole(amount / 1024**2)}Mi"
