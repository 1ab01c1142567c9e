"""The node, seen by a privileged pod in its network and pid namespaces: any node, also one that we did not start."""

import json
from typing import Any, NamedTuple

from .kubectl import Cluster, Manifest, application, eventually
from .traffic import SERVERS

NAME = "node"
MOUNT = "/host/cgroup"


def manifest(image: str) -> Manifest:
    """The pod. It serves iperf3 from the node's network namespace, and has bpftool and the node's cgroups."""
    pod = application(NAME, image, SERVERS, hostNetwork=True, hostPID=True)
    (container,) = pod["spec"]["containers"]
    container["securityContext"] = {"privileged": True}
    container["volumeMounts"] = [{"name": "cgroup", "mountPath": MOUNT, "readOnly": True}]
    pod["spec"]["volumes"] = [{"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}]
    return pod


class Program(NamedTuple):
    """One of podrate's programs, as bpftool shows it attached."""

    cgroup: str
    id: int
    hook: str  # cgroup_inet_egress or cgroup_inet_ingress
    flags: str  # "" is exclusive
    name: str


class Node:
    """What stands on the node that runs the pod `node`.

    address:      its own, in the cluster
    beside:       what puts another pod on the same node: fields of its spec
    cgroup_root:  where the pod `node` sees the root of the node's cgroup v2
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        pod = cluster.get("pod", NAME)
        self.address: str = pod["status"]["hostIP"]
        self.beside = {"nodeSelector": {"kubernetes.io/hostname": pod["spec"]["nodeName"]}}
        mounts = [line.split() for line in self.execute("cat", "/proc/mounts").splitlines()]
        self.cgroup_root = next(mount[1] for mount in mounts if mount[2] == "cgroup2" and MOUNT in mount[1])

    def execute(self, *command: str) -> str:
        """Run a command as root in the node's network and pid namespaces."""
        return self._cluster.execute(NAME, *command)

    def _lenient(self, command: str) -> str:
        """The same of a shell's command that may fail at what goes while it looks: other pods end when they like."""
        return self.execute("sh", "-c", f"{command}; true")

    def programs(self) -> list[Program]:
        """Every program of podrate's that is attached to a cgroup of the node, the root among them."""

        def walked() -> list[Any]:
            """In a list of its own; nothing where bpftool gave up, for a cgroup went while it walked to it."""
            tree = json.loads(self._lenient(f"bpftool -j cgroup tree {self.cgroup_root}"))
            return [] if any("error" in each for each in tree) else [tree]

        (tree,) = eventually("a whole walk", walked)
        return [
            Program(each["cgroup"], program["id"], program["attach_type"], program["attach_flags"], program["name"])
            for each in tree
            for program in each["programs"]
            if program["name"].startswith("podrate")
        ]

    def programs_of(self, uid: str) -> list[Program]:
        """Those that are attached to the cgroup of the pod with this UID, or below it."""
        return [program for program in self.programs() if any(name in program.cgroup for name in _names(uid))]

    def loaded(self) -> set[int]:
        """Ids of all programs in the kernel, attached or not, whosever."""
        return {each["id"] for each in json.loads(self.execute("bpftool", "-j", "prog", "list"))}

    def cgroups_of(self, uid: str) -> list[str]:
        """The cgroups that bear the UID of a pod."""
        either = " -o ".join(f"-name '*{name}*'" for name in _names(uid))
        return self._lenient(f"find {self.cgroup_root} {either}").splitlines()

    def loader(self, uid: str) -> int | None:
        """The process id of the loader of the pod with this UID, if it runs."""
        return self.process(uid, "^[^ ]*python3 .*podrate sidecar")

    def process(self, uid: str, command: str) -> int | None:
        """The process id of the pod with this UID whose command line matches, if it runs."""
        for line in self.execute("pgrep", "-f", "--", command).splitlines():
            cgroup = self._lenient(f"cat /proc/{line}/cgroup")
            if any(name in cgroup for name in _names(uid)):
                return int(line)
        return None

    def scrape(self, address: str) -> dict[str, float]:
        """The metrics that are served at ADDRESS:PORT, as the node reaches it: by name and labels."""
        script = f"import urllib.request; print(urllib.request.urlopen('http://{address}/metrics').read().decode())"
        lines = self.execute("python3", "-c", script).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def started(self, process: int) -> float:
        """When a process started, in seconds since the epoch; exact to a tick of 10 ms."""
        script = "import sys, time; ticks = open(f'/proc/{sys.argv[1]}/stat').read().rpartition(')')[2].split()[19]; "
        script += "print(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + int(ticks) / 100)"
        return float(self.execute("python3", "-c", script, str(process)))


def _names(uid: str) -> tuple[str, str]:
    """How the two cgroup drivers write a pod's UID."""
    return f"pod{uid}", f"pod{uid.replace('-', '_')}"
