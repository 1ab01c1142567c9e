"""What podrate says on stderr: lines that do nothing to a terminal."""

import sys


def say(line: str) -> None:
    """Print a line for a person on stderr; if that is closed, nobody wants to know."""
    if sys.stderr:
        try:  # noqa: SIM105  contextlib is dear, and the sidecar says things too
            print(f"podrate: {printable(line)}", file=sys.stderr, flush=True)
        except OSError:
            pass


def printable(text: str) -> str:
    """`text` on one line that does nothing to a terminal: whoever makes a cgroup or names a command chose its name.

    What can't be printed stands as an escape: \\x1b, \\n, and \\xff also for a byte of a path that is no UTF-8.
    """
    if text.isprintable():
        return text
    escaped = []
    for character in text:
        if "\udc80" <= character <= "\udcff":  # such a byte (PEP 383)
            escaped.append(f"\\x{ord(character) & 0xFF:02x}")
        else:
            escaped.append(character if character.isprintable() else ascii(character)[1:-1])
    return "".join(escaped)
