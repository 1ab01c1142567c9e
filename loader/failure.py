"""The one exception that ends a command."""

from loader.say import printable

# Exit codes by reason. Documented in docs/cli.md; add, never renumber. `podrate run` exits with COMMAND's own
# status, so there each of these is RUN_EXIT_CODE instead, as with timeout(1) and docker-run(1).
EXIT_CODES = {
    "usage": 2,
    "libbpf": 3,
    "permission": 4,
    "no-cgroup2": 5,
    "no-cgroup": 6,
    "kernel": 7,
    "occupied": 8,
    "annotation": 9,
    "not-limited": 10,
    "version": 11,
    "queue": 12,
    "user-namespace": 13,
    "seccomp": 14,
    "no-btf": 15,
    "old-kernel": 16,
    "memlock": 17,
    "lockdown": 18,
}
RUN_EXIT_CODE = 125


class Failure(Exception):
    """Why a command could not do its work: one line for a person, a reason code for a machine.

    reason:  a key of EXIT_CODES
    what:    what is wrong, and where
    remedy:  what to do about it
    """

    def __init__(self, reason: str, what: str, remedy: str) -> None:
        super().__init__(reason, what, remedy)
        self.reason = reason
        self.what = what
        self.remedy = remedy

    @property
    def exit_code(self) -> int:
        """The process's exit code for this reason."""
        return EXIT_CODES[self.reason]

    def __str__(self) -> str:
        stop = "" if self.what.endswith("?") else "."
        return printable(f"{self.reason}: {self.what}{stop} Remedy: {self.remedy}")
