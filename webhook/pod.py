"""The few fields of a raw pod that we look at, checked once."""

from collections.abc import Mapping
from typing import Any

from bandwidth.invalid import quote
from webhook.request import BadRequest, an_object, json_type, optional, required

MIRROR = "kubernetes.io/config.mirror"
_OS = "kubernetes.io/os"


class Pod:
    """A view of a v1 Pod as the API server sent it; the dict below is never changed.

    `raw` and `where` (its path in the request) come from the caller; so does `path`, where it is in the object that
    the user wrote: "" for a pod, "spec.template." for a template. Raises BadRequest for a wrong type in a field
    that we read. That is the caller's fault, not the user's: the API server decodes a pod before it asks us.
    """

    def __init__(self, raw: object, where: str, path: str = "") -> None:
        raw = an_object(raw, where)
        self.where = where
        self.path = path
        if path:  # a template may do without
            self.metadata: dict[str, Any] = optional(raw, "metadata", dict, where) or {}
        else:
            self.metadata = required(raw, "metadata", dict, where)
        self.labels = self._strings("labels")
        self.annotations = self._strings("annotations")
        self.spec: dict[str, Any] = required(raw, "spec", dict, where)
        self.init_containers = self._objects("initContainers")
        self.containers = self._objects("containers")
        self.ephemeral_containers = self._objects("ephemeralContainers")
        self.volumes = self._objects("volumes")
        self.pull_secrets = self._objects("imagePullSecrets")

    @property
    def host_network(self) -> bool:
        """Whether it has no network namespace of its own."""
        return self.spec.get("hostNetwork") is True

    @property
    def requests(self) -> Mapping[str, object]:
        """What it requests as a whole, for all its containers together (KEP-2837)."""
        resources = optional(self.spec, "resources", dict, f"{self.where}.spec")
        return (optional(resources, "requests", dict, f"{self.where}.spec.resources") or {}) if resources else {}

    @property
    def mirror(self) -> bool:
        """Whether this is the API server's picture of a static pod, which a kubelet made from a file of its own."""
        return MIRROR in self.annotations

    @property
    def windows(self) -> bool:
        """Whether the pod says that it runs on Windows, in either of the two ways that the scheduler knows."""
        os = optional(self.spec, "os", dict, f"{self.where}.spec") or {}
        selector = optional(self.spec, "nodeSelector", dict, f"{self.where}.spec") or {}
        return "windows" in (os.get("name"), selector.get(_OS))

    def _strings(self, key: str) -> dict[str, str]:
        found: dict[str, str] = optional(self.metadata, key, dict, f"{self.where}.metadata") or {}
        if None in found.values():  # in a manifest; an API server that decodes it has made it "" when it asks us
            found = {name: "" if value is None else value for name, value in found.items()}
        for name, value in found.items():
            if not isinstance(value, str):
                path = f"{self.where}.metadata.{key}[{quote(name)}]"
                raise BadRequest(f"{path} must be a string, not {json_type(value)}")
        return found

    def _objects(self, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = optional(self.spec, key, list, f"{self.where}.spec") or []
        for index, item in enumerate(found):
            if not isinstance(item, dict):  # asked here: its path is not worth writing for each that is
                an_object(item, f"{self.where}.spec.{key}[{index}]")
        return found
