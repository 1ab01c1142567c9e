"""Last of all (the files run by name): what is left when the release is gone, and what when its pods are too."""

from .conftest import RELEASE, SYSTEM, Figures, Pod
from .images import Images
from .kubectl import Cluster, application, eventually
from .node import NAME, Node
from .traffic import EGRESS, iperf3

KINDS = (
    *("mutatingwebhookconfigurations", "clusterroles", "clusterrolebindings", "roles", "rolebindings"),
    *("serviceaccounts", "secrets", "services", "endpointslices", "leases", "configmaps", "deployments", "replicasets"),
    *("pods", "poddisruptionbudgets", "networkpolicies", "resourcequotas"),
)


def test_uninstall_leaves_nothing(
    cluster: Cluster, pods: dict[str, Pod], node: Node, images: Images, figures: Figures
) -> None:
    limited = pods["limited"].uid
    attached = {program.id for program in node.programs_of(limited)}
    assert attached

    cluster.run("helm", "uninstall", RELEASE, "-n", SYSTEM, "--wait")
    selector = f"app.kubernetes.io/instance={RELEASE}"
    eventually("no pod of ours", lambda: not cluster.get("-n", SYSTEM, "pods", "-l", selector)["items"])
    left = [
        f"{it['kind']} {it['metadata']['name']}"
        for it in cluster.get("-n", SYSTEM, ",".join(KINDS))["items"]
        if "podrate" in it["metadata"]["name"]
    ]
    assert left == []

    # As NOTES.txt says: a limited pod stays limited until it ends; a new one is as if we had never been.
    assert {program.id for program in node.programs_of(limited)} == attached
    ratio = iperf3(cluster, "limited", EGRESS, pods[NAME].address).goodput / 20e6
    figures["egress after helm uninstall, goodput / limit"] = ratio
    assert 0.85 <= ratio <= 1.05
    cluster.create(application("after", images.app, ["sleep", "infinity"], {"podrate.io/bandwidth": "10m"}))
    assert "initContainers" not in cluster.get("pod", "after")["spec"]

    cluster.delete("after", "limited", "live")
    eventually("no cgroup of the pod", lambda: not node.cgroups_of(limited))
    eventually("no program in the kernel", lambda: not attached & node.loaded())
    assert node.programs() == []
