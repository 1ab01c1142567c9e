"""Measured figures as people read them: three digits, and the unit that suits. Limits, which are exact, are
bandwidth.rate's."""


def scaled(value: float) -> str:
    """Three digits and a prefix of 1000: 9.61M, 0, 12.3k."""
    prefixes = ["", "k", "M", "G", "T"]
    while value >= 999.5 and len(prefixes) > 1:
        value /= 1000
        prefixes.pop(0)
    prefix = prefixes[0]
    digits = 0 if prefix == "" or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f}{prefix}"


def percent(share: float) -> str:
    """A share of 1 as whole percent; what is there at all is not 0."""
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def seconds(value: float) -> str:
    """A time in seconds, with as many digits as say something."""
    return f"{value:.0f} s" if value >= 100 or value == round(value) else f"{value:.1f} s"


def count(number: int, what: str) -> str:
    """A number of things: 1 connection, 12 connections."""
    return f"{number} {what}{'' if number == 1 else 's'}"
