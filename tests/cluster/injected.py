"""A pod with the loader that the webhook would add under other settings than the release's."""

import json
from typing import Any

from webhook.sidecar import Settings, container

from .images import Images
from .kubectl import Cluster, application
from .node import Node
from .traffic import SERVERS


def create(cluster: Cluster, node: Node, images: Images, name: str, settings: Settings) -> None:
    """Create the pod, limited to 10M; this release is not asked about it. Waits for nothing."""
    asks = application(name, images.app, SERVERS, {"podrate.io/bandwidth": "10M"}, **node.beside)
    created = cluster.kubectl("create", "-f", "-", "--dry-run=server", "-o", "json", stdin=json.dumps(asks)).stdout
    manifest: dict[str, Any] = json.loads(
        created.replace("metadata.annotations['podrate.io/limit']", "metadata.annotations['limit']")
    )
    limit = manifest["metadata"]["annotations"]["podrate.io/limit"]
    manifest["metadata"] = {"name": name, "annotations": {"limit": limit}}
    manifest["spec"]["initContainers"] = [container(settings)]
    cluster.create(manifest)
