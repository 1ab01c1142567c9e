"""Pods as a node knows them: by UID in the names of cgroups, by name in those of the kubelet's log directories."""

import os
import re

LOGS = "/var/log/pods"  # the kubelet's default for podLogsDir: NAMESPACE_NAME_UID, for each pod of this node

# A pod's directory in any runtime's and driver's layout: see find_pod of loader.cgroup. A static pod's UID is a hash.
_POD = re.compile(r"(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$")


def uid_of(cgroup: str) -> str | None:
    """The UID of the pod that a cgroup is, or is in; None if it is no pod's."""
    for part in reversed(cgroup.split("/")):  # the inner one, where a cluster's node is another's pod
        if match := _POD.search(part):
            return match[1].replace("_", "-")
    return None


def names() -> dict[str, str]:
    """NAMESPACE/NAME by UID, of the pods whose logs this node has. Empty where there are none, or none to be read."""
    try:
        directories = os.listdir(LOGS)
    except OSError:
        return {}
    parts = (name.split("_") for name in directories)  # no name or namespace has one: RFC 1123
    return {each[2]: f"{each[0]}/{each[1]}" for each in parts if len(each) == 3}


def title(cgroup: str, known: dict[str, str]) -> str:
    """What a person calls a cgroup: NAMESPACE/NAME where it is a pod's and `known` (see names), else its path."""
    uid = uid_of(cgroup)
    if uid is None or uid not in known:
        return cgroup
    within = cgroup.partition(uid.replace("-", "_") + ".slice")[2] or cgroup.partition(uid)[2]
    return known[uid] + within  # a container's own limit
