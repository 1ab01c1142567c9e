"""Process 1 of a guest: what an init does before anything can run, then the observations, then the end."""

import os
import traceback

from tests.kernels.inside import guest

_MOUNTS = {
    "/proc": "proc",
    "/sys": "sysfs",
    "/dev": "devtmpfs",
    "/run": "tmpfs",
    "/tmp": "tmpfs",  # noqa: S108
    "/sys/fs/cgroup": "cgroup2",
}


def main() -> None:
    """Everything that a guest does."""
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    for where, kind in _MOUNTS.items():
        guest.mount(kind, where)
    guest.load_modules()
    try:
        from tests.kernels.inside.observe import main

        main()
    except BaseException:  # process 1 must not end
        traceback.print_exc()
    guest.end()
