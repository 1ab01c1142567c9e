"""What the API server, our webhook and kubectl make of a pod."""

import json
import re

import pytest

from .conftest import CHART, RELEASE, SYSTEM, Pod
from .images import Images
from .kubectl import Cluster, application

pytestmark = pytest.mark.usefixtures("release")


def test_loader_is_the_first_init_container_and_the_pod_is_ready(cluster: Cluster, pods: dict[str, Pod]) -> None:
    it = cluster.get("pod", pods["limited"].name)
    first = it["spec"]["initContainers"][0]
    assert (first["name"], first["restartPolicy"]) == ("podrate", "Always")
    status = it["status"]["initContainerStatuses"][0]
    assert status["started"]
    assert status["ready"]
    assert {"type": "Ready", "status": "True"}.items() <= _condition(it["status"], "Ready").items()
    written = json.loads(it["metadata"]["annotations"]["podrate.io/limit"])
    assert written == {"v": 1, "egress": 20_000_000, "ingress": 50_000_000}


def _condition(status: dict[str, list[dict[str, str]]], kind: str) -> dict[str, str]:
    return next(each for each in status["conditions"] if each["type"] == kind)


def test_unlabelled_pod_is_untouched_and_never_sent_to_us(cluster: Cluster, images: Images) -> None:
    plain = application("plain", images.app, ["sleep", "infinity"], {"app": "plain"}, {"note": "podrate.io/bandwidth"})
    reviews = _reviews(cluster)
    cluster.create(plain)
    cluster.kubectl("label", "pod", "plain", "version=2")
    it = cluster.get("pod", "plain")
    cluster.delete("plain")
    assert _reviews(cluster) == reviews
    # Others may add what they like.
    added = [it["metadata"]["annotations"], *it["spec"]["volumes"], *it["spec"].get("initContainers", [])]
    assert not [each for each in added if each.get("name", "").startswith("podrate") or "podrate.io/limit" in each]


def test_labelled_pod_is_sent_when_its_labels_change_and_only_then(cluster: Cluster, images: Images) -> None:
    reviews = _reviews(cluster)
    cluster.create(application("asks", images.app, ["sleep", "infinity"], {"podrate.io/bandwidth": "10M"}))
    assert _reviews(cluster) > reviews
    reviews = _reviews(cluster)
    finalizers = {"metadata": {"finalizers": ["example.com/theirs"]}}
    cluster.kubectl("patch", "pod", "asks", "--type=merge", "-p", json.dumps(finalizers))
    cluster.kubectl("patch", "pod", "asks", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    assert _reviews(cluster) == reviews
    cluster.kubectl("label", "pod", "asks", "podrate.io/bandwidth=20M", "--overwrite")
    assert _reviews(cluster) > reviews
    cluster.delete("asks")


def _reviews(cluster: Cluster) -> float:
    """How many reviews the API server has sent to us, by its own count."""
    metrics = cluster.kubectl("get", "--raw", "/metrics").stdout
    counts = re.findall(
        r'^apiserver_admission_webhook_request_total{.*name="pods\.podrate\.io".*} (\S+)$', metrics, re.M
    )
    return sum(map(float, counts))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("podrate.io/bandwidth", "10m", 'podrate.io/bandwidth: "10m": m means milli; did you mean 10M?'),
        ("podrate.io/bandwith", "10M", "did you mean podrate.io/bandwidth?"),
    ],
    ids=["value", "key"],
)
def test_apply_of_a_bad_label_prints_one_line(
    cluster: Cluster, images: Images, key: str, value: str, line: str
) -> None:
    bad = application("bad", images.app, ["sleep", "infinity"], {key: value})
    applied = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(bad), check=False)
    assert applied.returncode != 0
    (printed,) = applied.stderr.splitlines()
    assert line in printed
    assert "Example: " in printed
    assert cluster.kubectl("get", "pod", "bad", check=False).returncode != 0


def test_the_loaders_image_cannot_be_changed(cluster: Cluster, pods: dict[str, Pod]) -> None:
    """Of a running pod it could: what ran there instead would have the loader's capabilities."""
    change = ["set", "image", f"pod/{pods['limited'].name}", "podrate=localhost/other:1"]
    changed = cluster.kubectl(*change, check=False)
    assert changed.returncode != 0
    assert "the loader's image can't be changed" in changed.stderr


def test_what_the_notes_say_is_true(cluster: Cluster) -> None:
    """Each command of NOTES.txt, as helm shows it to the user."""
    notes = cluster.run("helm", "get", "notes", RELEASE, "-n", SYSTEM).stdout.replace("\\\n", "")
    commands = [line for line in notes.splitlines() if line.startswith("  kubectl ")]
    ready, limited, rejected = (cluster.run("bash", "-c", command, check=False) for command in commands)
    assert "successfully rolled out" in ready.stdout
    assert limited.stdout == '{"v":1,"egress":10000000,"ingress":10000000}\n'
    assert limited.stdout.strip() in notes
    assert rejected.returncode != 0
    assert "did you mean 10M?" in rejected.stderr


def test_upgrade_leaves_the_certificate_alone(cluster: Cluster, values: list[str]) -> None:
    before = _trust(cluster)
    assert all(before)
    cluster.run("helm", "upgrade", RELEASE, str(CHART), "-n", SYSTEM, "--wait", "--timeout", "60s", *values)
    assert _trust(cluster) == before


def _trust(cluster: Cluster) -> tuple[object, object]:
    """What the API server trusts, and what the webhook serves."""
    configuration = cluster.get("mutatingwebhookconfiguration", RELEASE)
    secret = cluster.get("-n", SYSTEM, "secret", f"{RELEASE}-tls")
    return configuration["webhooks"][0]["clientConfig"].get("caBundle"), secret.get("data")
