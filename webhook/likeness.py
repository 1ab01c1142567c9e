"""Whether a container by our name is ours: what we add, and of additions only those that are known to be harmless.

A pod comes to us a second time when another webhook has changed it, and a user may write a container that is ours to
the letter. Either has our capabilities, so nothing in it may decide what runs there, or what that reads: no mount over
the binary, no library to load before it.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What the API server fills in: core/v1 defaults (pkg/apis/core/v1/defaults.go), where we leave the field out.
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "container": {"terminationMessagePath": "/dev/termination-log"},
    "startupProbe": {"successThreshold": 1},
    "fieldRef": {"apiVersion": "v1"},
    "downwardAPI": {"defaultMode": 0o644},
}
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
# Credentials: the ServiceAccount plugin's, and those of the clouds' workload identities.
_SECRETS = "/var/run/secrets/"
# What the dynamic linker, Python and the loader itself read. Other variables change nothing in the loader, and
# injectors add many: regions, proxies, service addresses.
_TELLING = re.compile(r"(LD_|GLIBC_|GCONV_|MALLOC_|PYTHON|PODRATE_|POD_UID$|PATH$|HOME$|TMPDIR$)")


def difference(container: Mapping[str, Any], ours: Mapping[str, Any]) -> str | None:
    """The field in which `container` is not `ours`; None when it is ours.

    Its resources are not compared: a LimitRange or an autoscaler may set others, and whoever starves the loader gets a
    pod that does not start.
    """
    added = dict(_DEFAULTS["container"])
    for key, value in container.items():
        if key in ours:
            same = _SAME.get(key, _equal)(value, ours[key])
        elif key == "imagePullPolicy":
            same = value in _PULL_POLICIES
        else:
            same = key in added and _equal(value, added[key])
        if not same:
            return key
    return next((key for key in ours if key not in container), None)


def same_volume(volume: Mapping[str, Any], ours: Mapping[str, Any]) -> bool:
    """Whether `volume` is ours, with the API server's defaults or without."""
    return _equal(_with_defaults(volume), _with_defaults(ours))


def _with_defaults(value: object, key: str = "") -> object:
    if isinstance(value, list):
        return [_with_defaults(item) for item in value]
    if isinstance(value, dict):
        return dict(_DEFAULTS.get(key, {})) | {name: _with_defaults(item, name) for name, item in value.items()}
    return value


def _equal(actual: object, ours: object) -> bool:
    """By type too: to Python, 0 == False."""
    if type(actual) is not type(ours):
        return False
    if isinstance(actual, dict) and isinstance(ours, dict):
        return actual.keys() == ours.keys() and all(_equal(actual[key], ours[key]) for key in ours)
    if isinstance(actual, list) and isinstance(ours, list):
        return len(actual) == len(ours) and all(map(_equal, actual, ours))
    return actual == ours


def _same_probe(actual: object, ours: object) -> bool:
    return _equal(_with_defaults(actual, "startupProbe"), _with_defaults(ours, "startupProbe"))


def _same_image(actual: object, ours: object) -> bool:
    """A webhook that verifies signatures puts the digest behind the name."""
    if not isinstance(actual, str) or not isinstance(ours, str):
        return False
    return actual == ours or re.fullmatch(rf"{re.escape(ours)}@sha256:[0-9a-f]{{64}}", actual) is not None


def _same_mounts(actual: object, ours: Sequence[object]) -> bool:
    return _with_others(actual, ours, _is_secrets)


def _is_secrets(mount: Mapping[str, Any]) -> bool:
    path = mount.get("mountPath")
    return isinstance(path, str) and path.startswith(_SECRETS) and posixpath.normpath(path) == path


def _same_environment(actual: object, ours: Sequence[object]) -> bool:
    return _with_others(actual, ours, _tells_nothing)


def _tells_nothing(variable: Mapping[str, Any]) -> bool:
    name = variable.get("name")
    return isinstance(name, str) and not _TELLING.match(name)


def _with_others(actual: object, ours: Sequence[object], harmless: Any) -> bool:  # noqa: ANN401  a predicate
    """Whether the list `actual` has each of `ours` once, and else only what is harmless."""
    if not isinstance(actual, list):
        return False
    wanted = [_with_defaults(item) for item in ours]
    for item in actual:
        settled = _with_defaults(item)
        if found := [each for each in wanted if _equal(settled, each)]:
            wanted.remove(found[0])
        elif not isinstance(item, dict) or not harmless(item):
            return False
    return not wanted


_SAME: Mapping[str, Any] = {
    "image": _same_image,
    "startupProbe": _same_probe,
    "volumeMounts": _same_mounts,
    "env": _same_environment,
    "resources": lambda actual, _ours: isinstance(actual, dict),
}
