"""One request decided, without a server around it."""

import json
from typing import Any

from tests.webhook.reviews import patched, stored_pod
from webhook.decide import decide
from webhook.decision import Decision, Result
from webhook.namespace import Namespace
from webhook.review import allowed, parse
from webhook.sidecar import Settings

SETTINGS = Settings("localhost/podrate-loader:dev")
ASKS = {"podrate.io/bandwidth": "10M"}
LIMIT = "podrate.io/limit"
PLAIN = Namespace()


def of(asked: dict[str, Any], namespace: Namespace = PLAIN, settings: Settings = SETTINGS) -> Decision:
    return decide(parse(json.dumps(asked).encode()), settings, namespace)


def after(before: dict[str, Any], decision: Decision) -> dict[str, Any]:
    assert decision.result is Result.PATCHED, decision
    return patched(before, json.loads(allowed("uid", decision.patch))["response"])


def loaded(labels: dict[str, str], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """A running pod with the sidecar."""
    it = stored_pod()
    it["metadata"] |= {"labels": labels, "annotations": annotations or {}}
    return it
