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
    # And as docs/security.md says: nobody guards it any more.
    limit = '{"v":1,"egress":90000000,"ingress":50000000}'
    cluster.kubectl("annotate", "pod", "limited", f"podrate.io/limit={limit}", "--overwrite")
    eventually("what was written by hand", lambda: limit in cluster.logs("limited", "podrate")[-1])
    assert cluster.kubectl("exec", "limited", "-c", "podrate", "--", "podrate", "--version").stdout
    cluster.create(application("after", images.app, ["sleep", "infinity"], {"podrate.io/bandwidth": "10m"}))
    assert "initContainers" not in cluster.get("pod", "after")["spec"]

    cluster.delete("after", "limited", "live")
    eventually("no cgroup of the pod", lambda: not node.cgroups_of(limited))
    eventually("no program in the kernel", lambda: not attached & node.loaded())
    eventually("no program of any pod", lambda: node.programs() == [])  # some of the last tests' pods may still end
