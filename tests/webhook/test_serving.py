"""The process, as the API server and the kubelet meet it."""

import asyncio
import http.client
import json
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from tests.webhook.conftest import IMAGE, ROOT, Webhook, ask, running, serving
from tests.webhook.reviews import patched, pod, review
from webhook import app, tls
from webhook.metrics import Metrics
from webhook.namespaces import Nowhere
from webhook.review import MAX_BYTES
from webhook.sidecar import Settings

ASKS = {"podrate.io/bandwidth": "10M"}


def test_the_example_is_patched(webhook: Webhook) -> None:
    before = yaml.safe_load((ROOT / "examples/pod.yaml").read_text())
    after = patched(before, webhook.review(review(before)))
    first = after["spec"]["initContainers"][0]
    assert (first["name"], first["image"], first["restartPolicy"]) == ("podrate", IMAGE, "Always")
    assert json.loads(after["metadata"]["annotations"]["podrate.io/limit"]) == {
        "v": 1, "egress": 10_000_000, "ingress": 10_000_000,
    }  # fmt: skip
    # As the API server calls again when another webhook changed the pod after us.
    assert webhook.review(review(after)) == {
        "uid": review()["request"]["uid"],
        "allowed": True,
        "auditAnnotations": {
            "result": "allowed",
            "reason": "limited",
            "limit": '{"v":1,"egress":10000000,"ingress":10000000}',
        },
    }


def test_a_bad_label_is_rejected_in_one_line(webhook: Webhook) -> None:
    response = webhook.review(review(pod({"podrate.io/bandwidth": "10m"})))
    assert response["allowed"] is False
    assert response["status"] == {
        "code": 422,
        "reason": "Invalid",
        "message": 'podrate.io/bandwidth: "10m": m means milli; did you mean 10M? Allowed: a number and k, M, G or T '
        "(or Ki, Mi, Gi, Ti) in bits per second, from 1k to 1T. Example: 10M",
    }


def test_a_pod_that_asks_nothing_is_allowed_as_it_is(webhook: Webhook) -> None:
    response = webhook.review(review(pod(), uid="é\n"))
    assert response.pop("auditAnnotations") == {"result": "allowed", "reason": "no-limit"}
    assert response == {"uid": "é\n", "allowed": True}


def test_reviews_share_a_connection(webhook: Webhook) -> None:
    connection = webhook.connection()
    body = json.dumps(review(pod(ASKS)))
    for _ in range(20):
        connection.request("POST", "/mutate", body)
        socket_before = connection.sock
        assert connection.getresponse().read()
        assert connection.sock is socket_before
    connection.close()


NOT_REVIEWS: list[tuple[bytes, int, str]] = [
    (b"", 400, "the body is not JSON: Input is a zero-length, empty document: line 1 column 1 (char 0)"),
    (b"{", 400, "the body is not JSON: unexpected end of data: line 1 column 2 (char 1)"),
    (json.dumps(review(pod())).encode()[:-9], 400, "the body is not JSON: "),
    (b"\xff\xfe\xfd", 400, "the body is not JSON: "),
    (b"[]", 400, "the body must be an AdmissionReview, not a list"),
    (b"null", 400, "the body must be an AdmissionReview, not null"),
    (b"{}", 400, "apiVersion must be admission.k8s.io/v1"),
    (json.dumps(review(pod()) | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(), 400, "apiVersion must be "),
    (json.dumps(review(pod()) | {"kind": "Pod"}).encode(), 400, "kind must be AdmissionReview"),
    (json.dumps(review(pod()) | {"request": []}).encode(), 400, "request must be an object, not a list"),
    (json.dumps(review(pod(), uid=None)).encode(), 400, "request.uid must be a string, not null"),
    (json.dumps(review(pod(), uid="")).encode(), 400, "request.uid must not be empty"),
    (json.dumps(review(pod(), operation=7)).encode(), 400, "request.operation must be a string, not a number"),  # type: ignore[arg-type]
    (json.dumps(review(pod(), resource="pods")).encode(), 400, "request.resource must be an object, not a string"),
    (json.dumps(review(pod(), namespace=[])).encode(), 400, "request.namespace must be a string, not a list"),
    (json.dumps(review(pod(), namespace="a/pods")).encode(), 400, "request.namespace must be a Namespace's name"),
    (json.dumps(review(pod(), namespace="..")).encode(), 400, "request.namespace must be a Namespace's name"),
    (json.dumps(review(pod(), namespace="a?x=1")).encode(), 400, "request.namespace must be a Namespace's name"),
    (json.dumps(review(pod(), namespace="a" * 64)).encode(), 400, "request.namespace must be a Namespace's name"),
    (json.dumps(review(pod(), name={})).encode(), 400, "request.name must be a string, not an object"),
    (json.dumps(review()).encode(), 400, "request.object must be an object, not null"),
    (json.dumps(review(pod(initContainers="x"))).encode(), 400, "request.object.spec.initContainers must be a list"),
    (b"[" * 1_000_000, 400, "the body is not JSON: depth limit exceeded"),
    (b'{"a":' * 500_000, 400, "the body is not JSON: depth limit exceeded"),
    (b'{"uid": "\\ud800"}', 400, "the body is not JSON: no low surrogate in string"),
    (b"NaN", 400, "the body is not JSON: "),
    (b"9" * 10_000, 400, "the body is not JSON: number is infinity when parsed as double"),
    (b" " * (MAX_BYTES + 1), 413, "the body is larger than 4194304 bytes"),
]


@pytest.mark.parametrize(("body", "status", "line"), NOT_REVIEWS, ids=[line for _, _, line in NOT_REVIEWS])
def test_what_is_no_review_gets_one_line(webhook: Webhook, body: bytes, status: int, line: str) -> None:
    answer = webhook.call("POST", "/mutate", body)
    assert answer.status == status
    (printed,) = answer.body.splitlines()
    assert printed.startswith(line)


def test_a_large_pod_is_no_bad_request(webhook: Webhook) -> None:
    large = pod(ASKS, {"note": "x" * 3_000_000})
    assert webhook.review(review(large))["allowed"]


def test_a_chunked_body_is_bounded_too(webhook: Webhook) -> None:
    connection = webhook.connection()
    chunk = b"x" * 65536
    connection.request("POST", "/mutate", iter([chunk] * (MAX_BYTES // len(chunk) + 1)), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "line"),
    [
        ("GET", "/mutate", 405, "Method Not Allowed: only POST /mutate is served\n"),
        ("PUT", "/mutate", 405, "Method Not Allowed: only POST /mutate is served\n"),
        ("POST", "/", 404, "Not Found: only POST /mutate is served\n"),
        ("POST", "/mutate/", 404, "Not Found: only POST /mutate is served\n"),
        ("POST", "/mutate/../../etc/passwd", 404, "Not Found: only POST /mutate is served\n"),
        ("GET", "/docs", 404, "Not Found: only POST /mutate is served\n"),
        ("GET", "/openapi.json", 404, "Not Found: only POST /mutate is served\n"),
        ("GET", "/readyz", 404, "Not Found: only POST /mutate is served\n"),
    ],
)
def test_nothing_else_is_served(webhook: Webhook, method: str, path: str, status: int, line: str) -> None:
    answer = webhook.call(method, path)
    assert (answer.status, answer.body) == (status, line)


def test_probes_have_a_plain_port(webhook: Webhook) -> None:
    for path in ("/livez", "/readyz"):
        assert webhook.health("GET", path)[:2] == (200, "ok\n")
        assert webhook.health("HEAD", path)[:2] == (200, "")
        assert webhook.health("POST", path)[:2] == (405, "only GET is served\n")
    assert webhook.health("GET", "/mutate")[:2] == (404, "only /livez, /readyz and /metrics are served\n")


def test_metrics_count_what_was_done(webhook: Webhook) -> None:
    def value(sample: str) -> float:
        answer = webhook.health("GET", "/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        values = [line.rpartition(" ")[2] for line in answer.body.splitlines() if line.startswith(f"{sample} ")]
        return float(values[0]) if values else 0.0

    patched_ = 'podrate_reviews_total{kind="Pod",reason="limited",result="patched"}'
    rejected = 'podrate_reviews_total{kind="Pod",reason="bad-key",result="rejected"}'
    refused = 'podrate_bad_requests_total{status="400"}'
    answered = "podrate_review_seconds_count"
    before = {each: value(each) for each in (patched_, rejected, refused, answered)}
    webhook.review(review(pod(ASKS)))
    webhook.review(review(pod({"podrate.io/bandwidth": "10m"})))
    webhook.review(review(pod({"podrate.io/bandwidth": '\n"evil'})))
    webhook.call("POST", "/mutate", b"{")
    grown = {each: value(each) - was for each, was in before.items()}
    assert grown == {patched_: 1, rejected: 2, refused: 1, answered: 3}
    assert "evil" not in webhook.health("GET", "/metrics").body
    served = ssl.PEM_cert_to_DER_cert(webhook.certificate().decode())
    assert value("podrate_certificate_expiry_timestamp_seconds") == pytest.approx(
        x509.load_der_x509_certificate(served).not_valid_after_utc.timestamp()
    )
    assert value("process_resident_memory_bytes") > 2**20


def test_plain_http_on_the_tls_port_gets_nothing(webhook: Webhook) -> None:
    plain = http.client.HTTPConnection("localhost", webhook.port, timeout=10)
    plain.request("POST", "/mutate", json.dumps(review(pod())))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        plain.getresponse()
    plain.close()
    assert webhook.review(review(pod()))["allowed"]


def test_a_connection_that_ends_early_leaves_one_line(webhook: Webhook) -> None:
    connection = webhook.connection()
    connection.putrequest("POST", "/mutate")
    connection.putheader("content-length", "1000")
    connection.endheaders(b"{")
    connection.close()
    deadline = time.monotonic() + 10
    while not any(line.get("reason") == "the connection ended before the body did" for line in webhook.log()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_body_that_does_not_come(webhook: Webhook) -> None:
    connection = webhook.connection()
    connection.putrequest("POST", "/mutate")
    connection.putheader("content-length", "1000")
    connection.endheaders(b"{")
    response = connection.getresponse()
    assert (response.status, response.read()) == (408, b"the body did not come in time\n")
    connection.close()


def test_the_end_of_the_server_is_not_taken_for_a_late_body() -> None:
    application = app.create(Settings(IMAGE), Nowhere(), Metrics())
    scope = {"type": "http", "method": "POST", "path": app.PATH, "headers": [], "query_string": b""}

    async def never(message: object = None) -> Any:  # noqa: ANN401  ASGI's own
        assert message is None, "an answer to a review that was given up"
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(application(scope, never, never))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_log_names_things_and_shows_none(webhook: Webhook) -> None:
    secret = pod(ASKS, containers=[{"name": "web", "env": [{"name": "PASSWORD", "value": "hunter2"}]}])
    secret["metadata"] = {"generateName": "one-line-", "labels": ASKS}
    webhook.review(review(secret, namespace="shop"))
    webhook.review(review(pod({"podrate.io/egress": "fast"}), name="another\n", namespace="shop"))
    lines = [line for line in webhook.log() if line.get("namespace") == "shop"]
    for line in lines:
        assert line.pop("time").endswith("Z")
    limit = '{"v":1,"egress":10000000,"ingress":10000000}'
    common: dict[str, Any] = {"event": "review", "namespace": "shop", "operation": "CREATE", "owner": ""}
    assert lines[0] == common | {"name": "one-line-", "result": "patched", "reason": "limited", "line": limit}
    assert lines[1].pop("line").startswith('podrate.io/egress: "fast": ')
    assert lines[1] == common | {"name": "another\n", "result": "rejected", "reason": "bad-key"}
    assert "hunter2" not in json.dumps(webhook.log())


def test_sigterm_drains_and_finishes_the_review_under_way(tmp_path: Path) -> None:
    body = json.dumps(review(pod(ASKS))).encode()
    with serving(tmp_path, "--drain=1") as webhook:
        idle, kept, busy = webhook.connection(), webhook.connection(), webhook.connection()
        for each in (idle, kept):
            each.connect()
        began = time.monotonic()
        webhook.process.send_signal(signal.SIGTERM)
        webhook.event("not ready", server="stopping")
        assert webhook.health("GET", "/readyz")[:2] == (503, "server: stopping\n")
        assert webhook.health("GET", "/livez").status == 200
        # Until the endpoints are withdrawn both old and new connections are served, for the last time each.
        for connection in (kept, webhook.connection()):
            answer = ask(connection, "POST", "/mutate", body)
            assert json.loads(answer.body)["response"]["allowed"]
            assert answer.headers["connection"] == "close"
        busy.putrequest("POST", "/mutate")
        busy.putheader("content-length", str(len(body)))
        busy.endheaders(body[:10])
        # An idle connection is closed in the end. As Go does, we answer that by closing our end.
        assert idle.sock.recv(1) == b""
        assert time.monotonic() - began > 1
        idle.close()
        busy.send(body[10:])
        assert json.loads(busy.getresponse().read())["response"]["allowed"]
        busy.close()
        assert webhook.process.wait(5) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", webhook.port))


def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    with serving(tmp_path, "--drain=60") as webhook:
        webhook.process.send_signal(signal.SIGTERM)
        webhook.event("not ready", server="stopping")
        webhook.process.send_signal(signal.SIGTERM)
        assert webhook.process.wait(5) == 0


def test_new_files_are_served_and_bad_ones_are_not(tmp_path: Path) -> None:
    with serving(tmp_path, "--overlap=2") as webhook:
        kept = webhook.connection()
        kept.request("POST", "/mutate", json.dumps(review(pod())))
        assert kept.getresponse().read()
        authority = tls.new_authority()
        leaf = tls.issue(authority, ["localhost"])
        (tmp_path / "tls.key").write_bytes(leaf.key)
        webhook.event("unavailable", part="certificate")
        assert webhook.health("GET", "/readyz").status == 200  # the last good one is served
        assert webhook.review(review(pod()))["allowed"]
        (tmp_path / "tls.crt").write_bytes(leaf.certificate)
        webhook.event("certificate served", serial=f"{leaf.x509.serial_number:x}")
        with pytest.raises(ssl.SSLCertVerificationError):
            webhook.review(review(pod()))
        (tmp_path / "ca.crt").write_bytes(authority.certificate)
        webhook.tls = ssl.create_default_context(cafile=tmp_path / "ca.crt")
        assert webhook.review(review(pod()))["allowed"]
        kept.request("POST", "/mutate", json.dumps(review(pod())))
        assert kept.getresponse().read()
        kept.close()


def test_it_waits_for_the_api_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        away = taken.getsockname()[1]  # nobody listens there once the block ends
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        f"clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{away}'}}}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n"
    )
    options = ["--self-signed", "--service=podrate", "--namespace=system", "--secret=tls", "--configuration=podrate"]
    with running(tmp_path, *options, KUBECONFIG=str(kubeconfig)) as webhook:
        for part, path in (
            ("certificate", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podrate"),
            ("namespaces", "/api/v1/namespaces"),
        ):
            failure = webhook.event("unavailable", part=part)
            assert failure["reason"].startswith(f"get {path}: ")
            assert failure["again_in_seconds"] == 1
            status, body, _ = webhook.health("GET", "/readyz")
            assert status == 503
            assert f"\n{part}: {failure['reason']}\n" in body
        assert webhook.health("GET", "/livez").status == 200
        webhook.process.send_signal(signal.SIGTERM)
        assert webhook.process.wait(10) == 0
