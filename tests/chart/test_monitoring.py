"""The alerts, evaluated by Prometheus' own promtool on what a real webhook said; the dashboard.

A sample of these tests is a scrape of the webhook's /metrics. Only the time between two of them is not what it was.
"""

import functools
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bandwidth.limit import Limit
from loader.metrics import text as loader_text
from loader.shaper import Shaper
from tests.chart.helm import CHART, NAMESPACE, RELEASE, Helm, Rendered
from tests.webhook.conftest import Webhook, running
from tests.webhook.control_plane import BIN, ControlPlane
from tests.webhook.reviews import pod, review
from webhook import tls
from webhook.sidecar import METRICS

ALL = dict.fromkeys(("serviceMonitor", "podMonitor", "prometheusRule", "dashboard"), True)
VALUES: dict[str, Any] = {"monitoring": {**ALL, "labels": {"release": "prom"}}, "loader": {"metricsPort": 9095}}
TARGET = {"job": RELEASE, "namespace": NAMESPACE, "instance": "10.0.0.1:8080"}
ALERTS = {"PodrateDown", "PodrateCertificateExpires", "PodrateReviewsSlow", "PodrateReviewsUndecided"}
MINUTES = 12  # that a state lasts: longer than any alert waits

Scrape = dict[str, float]  # by the series' name and labels, as PromQL writes it


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Rendered:
    return helm.render(VALUES)


def series(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ",".join(f"{key}={json.dumps(value)}" for key, value in (labels | TARGET).items()) + "}"


def scrape(webhook: Webhook) -> Scrape:
    """What Prometheus would store of the webhook now, and of its attempt."""
    try:
        answer = webhook.health("GET", "/metrics")
    except (OSError, http.client.HTTPException):
        return {series("up", {}): 0}
    samples = [it for family in text_string_to_metric_families(answer.body) for it in family.samples]
    return {series("up", {}): 1, **{series(it.name, it.labels): float(it.value) for it in samples}}


@pytest.fixture(scope="module")
def plane_with_configuration(helm: Helm, plane: ControlPlane) -> Iterator[ControlPlane]:
    """The webhook asks for its configuration; nothing calls it here."""
    configuration = json.dumps(helm.render().one("MutatingWebhookConfiguration"))
    plane.kubectl("create", "-f", "-", stdin=configuration)
    yield plane
    plane.kubectl("delete", "-f", "-", stdin=configuration)


def webhook(directory: Path, plane: ControlPlane, days_left: float) -> AbstractContextManager[Webhook]:
    """A webhook that serves, with a certificate that ends in so many days."""
    authority = tls.new_authority()
    leaf = tls.issue(authority, ["localhost"], datetime.now(UTC) - tls.LEAF_LIFE + timedelta(days=days_left))
    for name, content in (("ca.crt", authority.certificate), ("tls.crt", leaf.certificate), ("tls.key", leaf.key)):
        (directory / name).write_bytes(content)
    options = ["--certificate", f"{directory}/tls.crt", "--key", f"{directory}/tls.key", f"--configuration={RELEASE}"]
    return running(directory, *options, authority=directory / "ca.crt", KUBECONFIG=str(plane.kubeconfig))


def ask(webhook: Webhook, namespace: str = "default") -> dict[str, Any]:
    return webhook.review(review(pod({"podrate.io/bandwidth": "10M"}), namespace=namespace))


@pytest.fixture(scope="module")
def healthy(plane_with_configuration: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> list[Scrape]:
    with webhook(tmp_path_factory.mktemp("healthy"), plane_with_configuration, days_left=20) as it:
        it.event("certificate served")
        scrapes = []
        for _ in range(MINUTES):
            assert ask(it)["allowed"]
            scrapes.append(scrape(it))
    return scrapes


@pytest.fixture(scope="module")
def api_server_frozen(plane_with_configuration: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> list[Scrape]:
    """Reviews of Namespaces that are not known yet, while the API server is stopped: each takes 2 s, for nothing.

    Three are answered at once, then there are three scrapes: what is rare is not missed by the alerts either.
    """
    plane = plane_with_configuration
    with webhook(tmp_path_factory.mktemp("frozen"), plane, days_left=4) as it:
        it.event("certificate served")
        scrapes = [scrape(it)]
        os.kill(plane.process.pid, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(3) as threads:
                for _ in range(MINUTES // 3):
                    unknown = [f"unknown-{len(scrapes)}-{each}" for each in range(3)]
                    for answer in threads.map(functools.partial(ask, it), unknown):
                        assert answer["status"]["code"] == 503
                    scrapes += [scrape(it) for _ in range(3)]
        finally:
            os.kill(plane.process.pid, signal.SIGCONT)
    scrapes += [scrape(it)] * MINUTES  # it has ended
    return scrapes


def firing(rendered: Rendered, scrapes: list[Scrape], minute: int, directory: Path) -> set[str]:
    """The alerts that fire at a minute, where a scrape was made each minute; by promtool."""
    names = dict.fromkeys(itertools.chain(*scrapes))
    values = {name: " ".join(str(each.get(name, "_")) for each in scrapes) for name in names}
    (directory / "rules.yaml").write_text(json.dumps(rendered.one("PrometheusRule")["spec"]))
    test = {
        "interval": "1m",
        "start_timestamp": int(time.time()),
        "input_series": [{"series": name, "values": each} for name, each in values.items()],
        "promql_expr_test": [
            {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{minute}m", "exp_samples": []}
        ],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    (directory / "test.yaml").write_text(yaml.safe_dump(document))
    # It compares with what is expected, nothing, and prints what it got.
    command = [str(BIN / "promtool"), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "got:" in said, said
    return set(re.findall(r'alertname=\\?"(\w+)', said))


def test_there_are_four(rendered: Rendered) -> None:
    (group,) = rendered.one("PrometheusRule")["spec"]["groups"]
    assert {each["alert"] for each in group["rules"]} == ALERTS
    for each in group["rules"]:
        assert each["labels"]["severity"] in ("warning", "critical")
        assert set(each["annotations"]) == {"summary", "description"}


def test_none_fires_while_all_is_well(rendered: Rendered, healthy: list[Scrape], tmp_path: Path) -> None:
    assert firing(rendered, healthy, MINUTES - 1, tmp_path) == set()


def test_each_fires_for_what_it_is_about(rendered: Rendered, api_server_frozen: list[Scrape], tmp_path: Path) -> None:
    frozen, gone = MINUTES, 2 * MINUTES
    assert firing(rendered, api_server_frozen, frozen, tmp_path) == {"PodrateReviewsSlow", "PodrateReviewsUndecided"}
    # The certificate's alert waits for a quarter of an hour, and outlives the webhook by no more than its metrics.
    assert "PodrateDown" in firing(rendered, api_server_frozen, gone, tmp_path)


def test_a_certificate_that_nobody_renews(
    rendered: Rendered, api_server_frozen: list[Scrape], healthy: list[Scrape], tmp_path: Path
) -> None:
    expiring = [api_server_frozen[0]] * 20
    assert firing(rendered, expiring, 10, tmp_path) == set()
    assert firing(rendered, expiring, 18, tmp_path) == {"PodrateCertificateExpires"}
    assert firing(rendered, [healthy[0]] * 20, 18, tmp_path) == set()


@pytest.fixture(scope="module")
def exported(healthy: list[Scrape], api_server_frozen: list[Scrape]) -> set[str]:
    """All metrics that the code really exports: the webhook's as scraped, the loader's of a limit in the kernel."""
    names = {name.partition("{")[0] for each in (*healthy, *api_server_frozen) for name in each}
    return names | _loader_metrics()


def _loader_metrics() -> set[str]:
    with Shaper() as shaper:
        shaper.buckets.set(Limit(10_000_000, 10_000_000))
        return set(re.findall(r"^(podrate_\w+)[{ ]", loader_text(shaper.buckets), re.M))


def names_in(expressions: list[str]) -> set[str]:
    return set(re.findall(r"\bpodrate_\w+", " ".join(expressions)))


def test_the_alerts_and_the_dashboard_name_what_is_exported(rendered: Rendered, exported: set[str]) -> None:
    (group,) = rendered.one("PrometheusRule")["spec"]["groups"]
    alerts = [each["expr"] for each in group["rules"]]
    assert len(names_in(alerts)) == 3
    assert names_in(alerts) <= exported
    dashboard = json.loads(rendered.one("ConfigMap")["data"]["podrate.json"])
    panels = [it["expr"] for panel in dashboard["panels"] for it in panel.get("targets", ())]
    queries = [it["query"]["query"] for it in dashboard["templating"]["list"] if it["type"] == "query"]
    # A counter that nobody has counted yet is not there, such as that of bad requests.
    assert names_in(panels + queries) <= exported | {"podrate_bad_requests_total"}
    assert len(names_in(panels)) >= 8


def test_the_dashboards_queries_are_PromQL(tmp_path: Path, rendered: Rendered) -> None:  # noqa: N802
    dashboard = json.loads(rendered.one("ConfigMap")["data"]["podrate.json"])
    assert rendered.one("ConfigMap")["data"]["podrate.json"] == (CHART / "dashboards" / "podrate.json").read_text()
    expressions = [it["expr"] for panel in dashboard["panels"] for it in panel.get("targets", ())]
    rules = [
        {"record": f"panel:{number}", "expr": each.replace("$__rate_interval", "5m").replace("$namespace", "a")}
        for number, each in enumerate(expressions)
    ]
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    command = [str(BIN / "promtool"), "check", "rules", "rules.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(expressions)} rules found" in done.stdout


def test_what_the_operator_is_told(rendered: Rendered) -> None:
    for kind in ("ServiceMonitor", "PodMonitor", "PrometheusRule"):
        assert rendered.one(kind)["metadata"]["labels"]["release"] == "prom"
    spec = rendered.one("ServiceMonitor")["spec"]
    service = rendered.one("Service")
    assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {each["port"] for each in spec["endpoints"]} <= {each["name"] for each in service["spec"]["ports"]}
    assert [each["port"] for each in rendered.one("PodMonitor")["spec"]["podMetricsEndpoints"]] == [METRICS]
    assert "--loader-metrics-port=9095" in rendered.container["args"]
