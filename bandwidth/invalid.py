"""A value that a person wrote and podrate can't accept."""

_LONGEST_PLACE = 400  # a key of an annotation, 317, and the path to it


class Invalid(ValueError):
    """One bad value, as fields; `str()` of it is one line: where, what, why, what is allowed, an example.

    where:    the key, option or file that held the value
    value:    the value as it was written
    reason:   what is wrong with it
    allowed:  the form that would be accepted
    example:  a value that would be accepted
    """

    def __init__(self, where: str, value: object, reason: str, allowed: str, example: str) -> None:
        super().__init__(where, value, reason, allowed, example)
        self.where = where
        self.value = value
        self.reason = reason
        self.allowed = allowed
        self.example = example

    def __str__(self) -> str:
        stop = "" if self.reason.endswith("?") else "."
        plain = len(self.where) <= _LONGEST_PLACE and self.where.isascii() and self.where.isprintable()
        where = self.where if plain else quote(self.where)
        return f"{where}: {quote(self.value)}: {self.reason}{stop} Allowed: {self.allowed}. Example: {self.example}"


def quote(value: object, longest: int = 80) -> str:
    """`value` on one line of printable ASCII, however it was written: it goes to terminals and to logs."""
    shown = ascii(value[: longest + 1] if isinstance(value, str) else value)
    if isinstance(value, str):
        shown = '"' + shown[1:-1].replace("\\'", "'").replace('"', '\\"') + '"'
    return shown if len(shown) <= longest + 2 else shown[:longest] + "..."
