"""Pods with a loader that the release would not add: under other settings, or one that fails."""

import json
from typing import Any

from webhook.sidecar import Settings, container

from .images import Images
from .kubectl import Cluster, Manifest, application
from .node import Node
from .traffic import SERVERS

NOBODY = "00000000-0000-4000-8000-000000000000"


def create(cluster: Cluster, node: Node, images: Images, name: str, settings: Settings) -> None:
    """Create the pod, limited to 10M, with the loader that the webhook adds under `settings`. Waits for nothing."""
    manifest = _unasked(cluster, images.app, name, **node.beside)
    manifest["spec"]["initContainers"] = [container(settings)]
    cluster.create(manifest)


def astray(cluster: Cluster, image: str, name: str, **spec: Any) -> Manifest:
    """The manifest of one whose loader fails: the UID by which it looks for its pod is nobody's."""
    manifest = _unasked(cluster, image, name, **spec)
    manifest["spec"]["initContainers"][0]["env"] = [{"name": "POD_UID", "value": NOBODY}]
    return manifest


def _unasked(cluster: Cluster, image: str, name: str, **spec: Any) -> Manifest:
    """What the webhook makes of a pod with a limit of 10M, but without a label: it is not asked again."""
    asks = application(name, image, SERVERS, {"podrate.io/bandwidth": "10M"}, **spec)
    created = cluster.kubectl("create", "-f", "-", "--dry-run=server", "-o", "json", stdin=json.dumps(asks)).stdout
    manifest: Manifest = json.loads(
        created.replace("metadata.annotations['podrate.io/limit']", "metadata.annotations['limit']")
    )
    limit = manifest["metadata"]["annotations"]["podrate.io/limit"]
    manifest["metadata"] = {"name": name, "annotations": {"limit": limit}}
    return manifest
