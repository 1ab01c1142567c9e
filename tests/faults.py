"""What broke, and what was seen then: the table "Faults" of docs/reliability.md."""

from tests.table import Table

# In the order of the table: of a pod, of the webhook, of the node.
FAULTS = (
    "a loader is killed",
    "an application crashes again and again",
    "500 connections under one limit",
    "the loader's image is missing",
    "the webhook's replicas are killed, one after the other",
    "both replicas are gone",
    "the API server is killed during reviews",
    "the certificate's Secret is deleted",
    "the caBundle is emptied, or reset, by hand",
    "the webhook's view of the Namespaces is cut",
    "a replica's clock is 40 days ahead, and comes back",
    "kubelet is killed under a limited pod",
    "containerd is killed under a limited pod",
    "kube-apiserver is killed under a limited pod",
    "a pod's processes and its cgroup are gone, as after a reboot of the node",
    "many pods are created at once on one node",
    "the node's disk has no room for the loader's image",
)
TABLE = Table("make test-faults", "| Fault | Seen | Measured |\n|---|---|---|\n", FAULTS)
