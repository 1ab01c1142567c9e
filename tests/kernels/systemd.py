"""The files that make systemd a guest's first process: this machine's own systemd, and one unit of ours."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.kernels.archive import Unavailable
from tests.kernels.initramfs import script

_PACKAGES = ("systemd", "libsystemd-shared", "systemd-sysv")
_LEFT_OUT = ("/usr/share/", "/usr/lib/systemd/boot/")  # documentation, translations

_UNIT = """\
[Unit]
Description=What the test looks at
DefaultDependencies=no

[Service]
Type=exec
ExecStart=/observe
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""

FILES = {
    "observe": script("tests.kernels.inside.units"),
    "etc/systemd/system/observe.service": _UNIT,
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",  # without one it is a first boot
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
}
ARGUMENTS = "rdinit=/lib/systemd/systemd systemd.unit=observe.service systemd.log_level=warning"
HYBRID = "systemd.unified_cgroup_hierarchy=0"


def system() -> list[Path]:
    """This machine's systemd."""
    if shutil.which("dpkg-query") is None or not Path("/lib/systemd/systemd").exists():
        raise Unavailable("the guest needs Debian's systemd, which is not here (apt-get install systemd)")
    listed = ["dpkg-query", "--listfiles", *_PACKAGES]
    paths = subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split("\n")
    return [Path(path) for path in paths if os.path.lexists(path) and not path.startswith(_LEFT_OUT) and path != "/."]
