"""The policy: from an AdmissionRequest to allowed, patched or rejected. Quick, and without I/O."""

from bandwidth.invalid import Invalid
from webhook import namespace as namespaces
from webhook import pods, subresources, workload
from webhook.decision import Decision, Reason, Result, rejected
from webhook.namespace import Namespace
from webhook.pod import Pod
from webhook.request import AdmissionRequest, BadRequest
from webhook.sidecar import Settings

_NEW, _OLD = "request.object", "request.oldObject"


def decide(request: AdmissionRequest, settings: Settings, namespace: Namespace) -> Decision:
    """The answer to `request`, about an object in `namespace`. Raises BadRequest for what no API server would send.

    A dry run is decided as any other: we change nothing but the object.
    """
    try:
        try:
            return _judge(request, settings, namespace)
        except Invalid as error:
            return rejected(error)  # which quotes a value that may be nested too
    except RecursionError:  # orjson reads a thousand levels; no Kubernetes object has thirty
        raise BadRequest("the object is nested too deeply") from None


def needs_namespace(request: AdmissionRequest) -> bool:
    """Whether the answer depends on the Namespace that the object is in: so it does for pods, to be or not yet."""
    resource = request["resource"]
    what = (resource["group"], resource["resource"])
    return what in workload.WORKLOADS or what == ("", "pods")


def _judge(request: AdmissionRequest, settings: Settings, namespace: Namespace) -> Decision:
    resource = request["resource"]
    what = (resource["group"], resource["resource"], request.get("subResource") or "")
    new, old = request.get("object"), request.get("oldObject")
    if resource["version"] != "v1":
        return Decision(Result.ALLOWED, Reason.NOT_OURS, "of a version that podrate does not judge")
    match request["operation"], what:
        case "CREATE", ("", "pods", ""):
            return pods.created(Pod(new, _NEW), namespace, settings)
        case "UPDATE", ("", "pods", "" | "status" as subresource):
            return pods.updated(Pod(new, _NEW), Pod(old, _OLD), namespace, settings, status=subresource == "status")
        case "UPDATE", ("", "pods", "ephemeralcontainers"):
            return subresources.debugged(Pod(new, _NEW))
        case "UPDATE", ("", "pods", "resize"):
            return subresources.resized(Pod(new, _NEW), Pod(old, _OLD))
        case "CONNECT", ("", "pods", "exec" | "attach"):
            return subresources.entered(new)
        case "CREATE", ("", "pods", "binding") | ("", "bindings", ""):
            return subresources.bound(new)
        case "CREATE" | "UPDATE" as operation, ("", "namespaces", ""):
            return namespaces.applied(new, old if operation == "UPDATE" else None)
        case "CREATE" | "UPDATE" as operation, (group, name, "") if (group, name) in workload.WORKLOADS:
            _, path = workload.WORKLOADS[group, name]
            return workload.applied(new, old if operation == "UPDATE" else None, path, namespace, settings)
        case _:
            return Decision(Result.ALLOWED, Reason.NOT_OURS, "nothing that podrate judges")
