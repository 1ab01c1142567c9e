"""How long to wait before what failed is tried again."""

from collections.abc import Iterator

_FIRST, _LONGEST = 1.0, 15.0


def waits() -> Iterator[float]:
    """Seconds to wait after the first failure in a row, the second, and so on for ever; begin anew after a success."""
    wait = _FIRST
    while True:
        yield wait
        wait = min(2 * wait, _LONGEST)
