"""The webhook's replicas, and the API server's trust in them."""

import json

from .conftest import RELEASE, SYSTEM
from .kubectl import Cluster

PODS = ("-n", SYSTEM, "pods", "-l", f"app.kubernetes.io/instance={RELEASE}")


def replicas(cluster: Cluster) -> list[str]:
    """The pods of the webhook that are ready and stay."""
    return [
        each["metadata"]["name"]
        for each in cluster.get(*PODS)["items"]
        if "deletionTimestamp" not in each["metadata"]
        and {"type": "Ready", "status": "True"}.items()
        <= next((it for it in each["status"].get("conditions", []) if it["type"] == "Ready"), {}).items()
    ]


def bundles(cluster: Cluster) -> set[str]:
    """Whom the API server trusts, by the entries of the configuration: one if all is well."""
    found = cluster.get("mutatingwebhookconfiguration", RELEASE)["webhooks"]
    return {each["clientConfig"].get("caBundle", "") for each in found}


def secret(cluster: Cluster) -> dict[str, str]:
    """What the certificate's Secret holds; nothing until there is a leaf in it."""
    found = cluster.kubectl("-n", SYSTEM, "get", "secret", f"{RELEASE}-tls", "-o", "json", check=False).stdout
    data: dict[str, str] = json.loads(found or "{}").get("data", {})
    return data if "tls.crt" in data else {}
