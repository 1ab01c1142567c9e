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
        with open(self._owned, "a+") as file:
            file.writelines(f"{each}\n" for each in program_ids)
            file.seek(0)
            return frozenset(int(line) for line in file if line.strip().isdecimal())

    def announce(self, announced: Announced) -> None:
        """Say what is in force. Atomic: a reader sees the old or the new."""
        with open(self._announced + ".new", "w") as file:
            print(announced.cgroup, *announced.programs, announced.limit, sep="\n", file=file)
        os.rename(self._announced + ".new", self._announced)

    def announced(self) -> Announced | None:
        """What `announce` last said; None if it has not yet, or the file is not ours, which is as good as not yet."""
        try:
            with open(self._announced) as file:
                cgroup, *programs, limit = file.read().splitlines()
            return Announced(cgroup, tuple(map(int, programs)), limit)
        except (FileNotFoundError, ValueError):
            return None
