"""What the loader leaves for its probe and for its own next run: files in the pod's state directory."""

import os


class Announced:
    """What is in force: `cgroup`, the ids of the `programs` on it, and the `limit` as read back from the kernel."""

    def __init__(self, cgroup: str, programs: tuple[int, ...], limit: str) -> None:
        self.cgroup = cgroup
        self.programs = programs
        self.limit = limit


class State:
    """The directory. It is in memory and lives as long as the pod, so also over our own restarts."""

    def __init__(self, directory: str) -> None:
        self._owned = os.path.join(directory, "programs")
        self._announced = os.path.join(directory, "announced")

    def own(self, program_ids: tuple[int, ...]) -> frozenset[int]:
        """Note these programs as ours, before they are attached; returns all that ever were.

        A loader that was killed finds its predecessor's programs attached, and may not look at them (that needs
        CAP_SYS_ADMIN): this is how it knows them from somebody else's.
        """
        try:
            with open(self._owned, errors="replace") as file:
                # A last line without its end was cut short, and is another program's number.
                noted = [line for line in file if line.endswith("\n") and line.strip().isdecimal()]
        except FileNotFoundError:
            noted = []
        noted += [f"{each}\n" for each in program_ids]
        _replace(self._owned, "".join(noted))
        return frozenset(map(int, noted))

    def announce(self, announced: Announced) -> None:
        """Say what is in force. Atomic: a reader sees the old or the new."""
        lines = announced.cgroup, *map(str, announced.programs), announced.limit
        _replace(self._announced, "\n".join(lines) + "\n")

    def announced(self) -> Announced | None:
        """What `announce` last said; None if it has not yet, or the file is not ours, which is as good as not yet."""
        try:
            with open(self._announced) as file:
                cgroup, *programs, limit = file.read().splitlines()
            return Announced(cgroup, tuple(map(int, programs)), limit)
        except (FileNotFoundError, ValueError):
            return None


def _replace(path: str, text: str) -> None:
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)
