"""What docs/security.md says, tried: by a tenant, an application, a shell in the loader, the webhook."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from webhook.sidecar import VOLUMES, Settings, container

from .conftest import NAMESPACE, RELEASE, SYSTEM, Pod, pod
from .images import Images
from .kubectl import Cluster, application, eventually
from .node import MOUNT, Node

pytestmark = pytest.mark.usefixtures("release")

SHOP = "security-shop"  # the tenant's namespace
SLEEP = ["python3", "-c", "import time; time.sleep(1000)"]  # neither image has a sleep(1)
TENANT = ("-n", SHOP, "--as=tenant")
NAME = "web"


def limit(egress: int, ingress: int) -> str:
    return json.dumps({"v": 1, "egress": egress, "ingress": ingress}, separators=(",", ":"))


@pytest.fixture(scope="module")
def web(cluster: Cluster, node: Node, images: Images) -> Iterator[Pod]:
    """A tenant's pod: under a cap of the Namespace's, its containers see each other's processes, and run as root.

    The tenant has Kubernetes' own ClusterRole `edit` there, and nothing anywhere else.
    """
    labels = {"pod-security.kubernetes.io/enforce": "privileged", "podrate.io/max-bandwidth": "20M"}
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP, "labels": labels}})
    cluster.kubectl("-n", SHOP, "create", "rolebinding", "tenant", "--clusterrole=edit", "--user=tenant")
    account = ["-n", SHOP, "get", "serviceaccount", "default"]
    eventually("its account", lambda: cluster.kubectl(*account, check=False).returncode == 0)
    manifest = application(
        NAME,
        images.app,
        ["sleep", "infinity"],
        {"podrate.io/bandwidth": "10M"},
        shareProcessNamespace=True,
        **node.beside,
    )
    (app,) = manifest["spec"]["containers"]
    more = {"bare": [], "network": ["NET_ADMIN"], "equal": ["NET_ADMIN", "BPF"], "tracer": ["SYS_PTRACE"]}
    for name, capabilities in more.items():
        context = {"capabilities": {"drop": ["ALL"], "add": capabilities}}
        manifest["spec"]["containers"].append(app | {"name": name, "securityContext": context})
    cluster.kubectl(*TENANT, "create", "-f", "-", stdin=json.dumps(manifest))
    cluster.kubectl("-n", SHOP, "wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=60s")
    yield pod(cluster, NAME, SHOP)
    cluster.kubectl("delete", "namespace", SHOP, "--wait=false")


def tried(cluster: Cluster, *command: str) -> str:
    """What kubectl says to somebody who may not; fails where it works."""
    done = cluster.kubectl(*command, check=False)
    assert done.returncode != 0, f"{' '.join(command)}: {done.stdout}"
    return done.stderr


def may_not(cluster: Cluster, who: str, verb: str, what: str, where: str) -> None:
    """`what` is a resource, or one with a name behind a slash, or with a subresource as an option."""
    said = cluster.kubectl("-n", where, f"--as={who}", "auth", "can-i", verb, *what.split(), check=False)
    assert said.stdout.strip() == "no", said


def in_force(cluster: Cluster) -> str:
    written: str = cluster.get("-n", SHOP, "pod", NAME)["metadata"]["annotations"]["podrate.io/limit"]
    return written


# The tenant


def test_a_tenant_may_change_its_own_limit_below_the_cap(cluster: Cluster, web: Pod) -> None:
    for value, expected in (("20M", 20_000_000), ("5M", 5_000_000), (None, 20_000_000), ("10M", 10_000_000)):
        change = json.dumps({"metadata": {"labels": {"podrate.io/bandwidth": value}}})
        cluster.kubectl(*TENANT, "patch", "pod", web.name, "--type=merge", "-p", change)
        assert in_force(cluster) == limit(expected, expected)  # without a label: the cap


@pytest.mark.parametrize(
    ("verb", "what", "where"),
    [
        *(("patch", f"namespace/{SHOP}", SHOP), ("create", "namespaces", SHOP)),  # the caps are its labels
        *(("patch", "pods --subresource=status", SHOP), ("create", "pods --subresource=binding", SHOP)),
        *(("patch", f"mutatingwebhookconfiguration/{RELEASE}", SHOP), ("create", "nodes --subresource=proxy", SHOP)),
        *(("get", f"secret/{RELEASE}-tls", SYSTEM), ("patch", f"deployment/{RELEASE}", SYSTEM)),
        *(("create", "pods --subresource=exec", SYSTEM), ("create", "serviceaccounts --subresource=token", SYSTEM)),
    ],
    ids=str,
)
def test_a_tenant_may_not(cluster: Cluster, web: Pod, verb: str, what: str, where: str) -> None:  # noqa: ARG001
    may_not(cluster, "tenant", verb, what, where)


def test_no_debugger_joins_the_loader(cluster: Cluster, web: Pod, images: Images) -> None:
    """Whoever asks; beside the application it may."""
    debug = ["-n", SHOP, "debug", web.name, f"--image={images.app}", "--profile=general"]
    said = tried(cluster, *debug, "--target=podrate", "--", "true")
    assert 'spec.ephemeralContainers[0].targetContainerName: "podrate": what joins the loader\'s processes' in said
    cluster.kubectl(*debug, "--target=app", "--", "true")


def test_nobody_starves_the_loader(cluster: Cluster, web: Pod) -> None:
    """Kubernetes' roles may resize nothing; who may, what is the pod's own."""
    may_not(cluster, "tenant", "patch", "pods --subresource=resize", SHOP)
    patch = ["-n", SHOP, "patch", "pod", web.name, "--subresource=resize", "--type=strategic", "-p"]
    for cpu_and_memory in ({"cpu": "1m"}, {"memory": "16Mi"}):
        starved = {"initContainers": [{"name": "podrate", "resources": {"limits": cpu_and_memory}}]}
        said = tried(cluster, *patch, json.dumps({"spec": starved}))
        assert 'spec.initContainers[0].resources: "podrate": a loader with less may no longer follow' in said
    grown = {"containers": [{"name": "bare", "resources": {"requests": {"memory": "32Mi"}}}]}
    cluster.kubectl(*patch, json.dumps({"spec": grown}))


# The application


def python(cluster: Cluster, where: list[str], script: str, *arguments: str, check: bool = True) -> str:
    """What a program of inside/ prints in a container, or, where it fails as it should, its last line of error."""
    source = (Path(__file__).parent / "inside" / f"{script}.py").read_text()
    interpreter = "/opt/webhook/bin/python" if script == "webhook" else "python3"
    done = cluster.kubectl("exec", "-i", *where, "--", interpreter, "-", *arguments, stdin=source, check=check)
    return done.stdout if check else done.stderr


def test_packet_sockets_pass_a_limit_unless_they_are_taken_away(cluster: Cluster, web: Pod) -> None:
    """The first limit of what podrate sees, and its remedy: `drop: [NET_RAW]`, as PodSecurity `restricted` has it."""
    there = ["-n", SHOP, web.name, "-c"]
    assert "PermissionError" in python(cluster, [*there, "bare"], "packets", check=False)
    rate = float(python(cluster, [*there, "app"], "packets"))
    assert rate > 2 * 20e6  # bit/s: twice the cap, four times the limit


def test_who_may_change_the_pods_network_passes_a_limit(cluster: Cluster, web: Pod, node: Node) -> None:
    """The kernel sends what netfilter copied, and no socket does. NET_ADMIN is not given by default."""
    there = ["-n", SHOP, web.name, "-c"]
    assert "Operation not permitted" in python(cluster, [*there, "app"], "packets", node.address, check=False)
    rate = float(python(cluster, [*there, "network"], "packets", node.address))
    assert rate > 2 * 20e6


@pytest.mark.parametrize("it", ["app", "network"])
def test_an_application_gets_at_neither_the_loader_nor_its_programs(cluster: Cluster, web: Pod, it: str) -> None:
    """As root, beside the loader in one process namespace, with the capabilities that containerd gives by default; or
    with NET_ADMIN. The tree that it sees begins at its own container's cgroup, and the limit is on the one above."""
    nothing_there, not_asked = "No such file or directory", "Operation not permitted"  # the latter before Linux 5.19
    detached = json.loads(python(cluster, ["-n", SHOP, web.name, "-c", it], "detach", "/sys/fs/cgroup"))
    assert set(detached.values()) <= {nothing_there, not_asked}
    said = json.loads(python(cluster, ["-n", SHOP, web.name, "-c", it], "application"))
    denied, not_permitted = "Permission denied", "Operation not permitted"
    assert said.pop("the loader's mounts") == said.pop("the loader's descriptors") == denied
    assert said.pop("another cgroup") == "Read-only file system"
    assert said.pop("the cgroup tree") in (denied, not_permitted)  # AppArmor's, or the missing capability's
    assert said.pop("the programs").endswith(not_permitted)
    assert not said


@pytest.mark.parametrize("it", ["equal", "tracer"])
def test_what_may_trace_the_loader_gets_at_it_in_a_shared_process_namespace(
    cluster: Cluster, web: Pod, it: str
) -> None:
    """By SYS_PTRACE, or by no fewer capabilities than the loader's: it has the node's cgroups then."""
    said = json.loads(python(cluster, ["-n", SHOP, web.name, "-c", it], "application"))
    assert "cgroup.controllers" in said["the loader's mounts"]


def test_an_application_that_stops_the_loader_keeps_its_limit(cluster: Cluster, web: Pod, node: Node) -> None:
    """As root in a shared process namespace it may; until the loader runs again nothing follows the label."""

    def signal(name: str) -> None:
        pkill = ["pkill", f"-{name}", "-f", "podrate sidecar"]
        cluster.kubectl("-n", SHOP, "exec", web.name, "-c", "app", "--", *pkill)

    def said() -> str:
        return cluster.kubectl("-n", SHOP, "logs", web.name, "-c", "podrate", "--tail=1").stdout

    before, loader = node.programs_of(web.uid), node.loader(web.uid)
    assert before
    signal("STOP")
    cluster.kubectl("-n", SHOP, "label", "pod", web.name, "podrate.io/bandwidth=8M", "--overwrite")
    assert in_force(cluster) == limit(8_000_000, 8_000_000)
    time.sleep(2)  # it would follow within 1.3 s
    assert limit(8_000_000, 8_000_000) not in said()
    assert node.programs_of(web.uid) == before
    signal("CONT")
    eventually("it follows", lambda: limit(8_000_000, 8_000_000) in said())
    assert (node.programs_of(web.uid), node.loader(web.uid)) == (before, loader)


# A shell in the loader


@pytest.fixture
def shell(cluster: Cluster, node: Node, images: Images) -> Iterator[list[str]]:
    """A container as the loader's in all but its name and its command, in a pod that podrate is not asked about: into
    the loader itself nobody gets."""
    pod_ = application("shell", images.loader, [], **node.beside)
    like = container(Settings(images.loader))
    for key in ("restartPolicy", "startupProbe"):
        del like[key]
    pod_["spec"] |= {"volumes": list(VOLUMES), "containers": [like | {"name": "shell", "command": SLEEP}]}
    cluster.create(pod_)
    cluster.wait_ready("shell")
    yield ["shell"]
    cluster.delete("shell")


def test_what_a_shell_in_the_loader_can_and_cannot(cluster: Cluster, web: Pod, shell: list[str], node: Node) -> None:
    attached = {each.id for each in node.programs_of(web.uid)}
    assert attached
    said = json.loads(python(cluster, shell, "loader", web.uid))
    bpf, net_admin = 39, 12  # linux/capability.h
    assert said.pop("CapEff") == said.pop("CapBnd") == f"{1 << bpf | 1 << net_admin:016x}"
    assert (said.pop("NoNewPrivs"), said.pop("Seccomp")) == ("1", "2")
    assert said.pop("detach") == [0, 0, 0]
    assert said.pop("make a cgroup") == said.pop("move a process") == "Read-only file system"
    assert said.pop("open a packet socket") in ("Operation not permitted", "Permission denied")
    assert set(said.values()) == {"Operation not permitted"}, said
    assert node.programs_of(web.uid) == [], "another pod is without its limit: that is what a shell in there means"
    # The loader sees that when it wakes; it ends, and the next one puts the limit back.
    cluster.kubectl("-n", SHOP, "label", "pod", web.name, "podrate.io/bandwidth=9M", "--overwrite")
    again = eventually("a limit again", lambda: node.programs_of(web.uid), seconds=30)
    assert {each.id for each in again}.isdisjoint(attached)


# The node


def test_who_opens_a_pods_cgroup_needs_no_capability_to_take_its_limit_off(
    cluster: Cluster, node: Node, images: Images
) -> None:
    """Nobody, in a pod that sees the node's cgroups by a read-only hostPath: the kernel asks for the directory alone.

    Not where seccomp keeps the system call from it; nor before Linux 5.19.
    """
    name = "nobody"
    manifest = application(name, images.app, SLEEP, {"podrate.io/bandwidth": "10M"}, **node.beside)
    context = {"runAsUser": 65534, "capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}
    (app,) = manifest["spec"]["containers"]
    app |= {"volumeMounts": [{"name": "cgroup", "mountPath": MOUNT, "readOnly": True}], "securityContext": context}
    confined = context | {"seccompProfile": {"type": "RuntimeDefault"}}
    manifest["spec"]["containers"].append(app | {"name": "confined", "securityContext": confined})
    manifest["spec"]["volumes"] = [{"name": "cgroup", "hostPath": {"path": "/sys/fs/cgroup", "type": "Directory"}}]
    cluster.create(manifest)
    cluster.wait_ready(name)
    uid = pod(cluster, name).uid

    def hooks() -> set[str]:
        return {each.hook for each in node.programs_of(uid)}

    def detached(it: str) -> set[str]:
        return set(json.loads(python(cluster, [name, "-c", it], "detach", node.cgroups_of(uid)[0])).values())

    before = hooks()
    assert detached("confined") == {"Operation not permitted"}
    assert hooks() == before
    if detached("app") == {"it works"}:  # from Linux 5.19 on
        assert hooks() == before - {"cgroup_inet_egress", "cgroup_inet_ingress"}
        # The loader sees that when it wakes; it ends, and the next one puts the limit back.
        cluster.kubectl("label", "pod", name, "podrate.io/bandwidth=9M", "--overwrite")
        eventually("a limit again", lambda: hooks() == before, 30)
    cluster.delete(name)


def test_the_kubelet_asks_no_webhook_who_enters_the_loader(cluster: Cluster, web: Pod, node: Node) -> None:
    """Who may nodes/proxy has the kubelet's own API."""
    (name,) = node.beside["nodeSelector"].values()
    run = f"/api/v1/nodes/{name}/proxy/run/{SHOP}/{web.name}/podrate?cmd=podrate%20probe"
    eventually("it runs", lambda: _probed(cluster, run), 30)


def _probed(cluster: Cluster, run: str) -> bool:
    return "is in force" in cluster.kubectl("create", "--raw", run, "-f", "-", stdin="x", check=False).stdout


# The webhook


def rules(cluster: Cluster, account: str, namespace: str) -> set[tuple[Any, ...]]:
    """All that an account may do in a namespace and cluster-wide, as the API server sums it up (`can-i --list`)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    raw = ["create", "--raw", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "-f", "-"]
    said = cluster.kubectl(*raw, f"--as=system:serviceaccount:{SYSTEM}:{account}", stdin=json.dumps(review)).stdout
    status = json.loads(said)["status"]
    assert not status["incomplete"]
    return _flat(status["resourceRules"]) | {
        ("url", *sorted(each["nonResourceURLs"])) for each in status["nonResourceRules"]
    }


def _flat(rules: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    keys = ("apiGroups", "resources", "resourceNames", "verbs")
    return {tuple(tuple(sorted(rule.get(key, ()))) for key in keys) for rule in rules}


def test_the_webhook_may_do_what_it_must_and_nothing_else(cluster: Cluster) -> None:
    """The whole list: of what any account may do (ask who it is, read the API), no more than this."""
    secret = (("",), ("secrets",), (f"{RELEASE}-tls",), ("create", "get", "list", "patch", "watch"))
    configuration = (
        *(("admissionregistration.k8s.io",), ("mutatingwebhookconfigurations",), (RELEASE,)),
        ("get", "list", "patch", "watch"),
    )
    everywhere = {
        configuration,
        (("",), ("namespaces",), (), ("get", "list", "watch")),
        (("",), ("limitranges", "resourcequotas"), (), ("list", "watch")),
    }
    for where, expected in ((SYSTEM, {secret, *everywhere}), (NAMESPACE, everywhere)):
        assert rules(cluster, RELEASE, where) - rules(cluster, "nobody", where) == expected
    manifest = yaml.safe_load_all(cluster.run("helm", "get", "manifest", RELEASE, "-n", SYSTEM).stdout)
    granted = [rule for each in manifest if each["kind"] in ("Role", "ClusterRole") for rule in each["rules"]]
    assert _flat(granted) == {secret, *everywhere}


@pytest.mark.parametrize(
    ("verb", "what", "where"),
    [
        *(("get", "secret/other", SYSTEM), ("list", "secrets", SYSTEM), ("create", "secrets", SYSTEM)),
        *(("get", f"secret/{RELEASE}-tls", NAMESPACE), ("delete", f"secret/{RELEASE}-tls", SYSTEM)),
        *(("patch", "mutatingwebhookconfiguration/other", ""), ("create", "mutatingwebhookconfigurations", "")),
        *(("delete", f"mutatingwebhookconfiguration/{RELEASE}", ""), ("patch", f"namespace/{NAMESPACE}", "")),
        *(("get", "pods", NAMESPACE), ("create", "pods", SYSTEM), ("create", "pods --subresource=exec", NAMESPACE)),
        *(
            ("get", "configmaps", NAMESPACE),
            ("create", "serviceaccounts --subresource=token", SYSTEM),
            ("get", "nodes", ""),
        ),
        *(
            ("impersonate", "users", ""),
            ("bind", "clusterroles", ""),
            ("create", "tokenreviews.authentication.k8s.io", ""),
        ),
    ],
    ids=str,
)
def test_the_webhook_may_not(cluster: Cluster, verb: str, what: str, where: str) -> None:
    may_not(cluster, f"system:serviceaccount:{SYSTEM}:{RELEASE}", verb, what, where or "default")


def test_the_webhook_runs_without_privileges_on_a_read_only_root(cluster: Cluster) -> None:
    assert json.loads(python(cluster, ["-n", SYSTEM, f"deployment/{RELEASE}"], "webhook")) == {
        **dict.fromkeys(("CapEff", "CapBnd"), "0" * 16),
        **{"NoNewPrivs": "1", "Seccomp": "2", "uid": 65532, "gid": 65532},
        "written": ["Read-only file system"] * 3,
    }


def test_nothing_of_the_releases_namespace_reaches_the_pods(cluster: Cluster, web: Pod) -> None:
    """No key, no token, no address of the webhook's is in what it makes of a pod."""
    it = json.dumps(cluster.get("-n", SHOP, "pod", web.name))
    for value in cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")["data"].values():
        assert value not in it
    assert SYSTEM not in it
