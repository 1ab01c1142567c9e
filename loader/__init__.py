"""The loader: puts a limit on a cgroup, in the kernel, and keeps it true.

From the bottom up; each module imports only from those above it:

    failure     the one exception that ends a command: a reason code, a line, a remedy, an exit code
    libbpf      libbpf.so.1 as C declares it: only what we use
    bpf         the typed API on top: object spec, loaded object, maps, programs, attachments
    cgroup      where cgroup v2 is mounted, a pod's cgroup by its UID, a cgroup of our own
    bucket      a Limit as the kernel holds it; the counters
    shaper      the programs, attached to a cgroup or found on one
    preflight   why the kernel refuses; imported only when it did
    namespace   a cgroup's processes, and their network namespaces
    queue       the ingress queue, for those who ask for it
    libnl       libnl-route-3.so.200 as C declares it; imported only where there is a queue
    ifb         the queue's device, qdisc and filters
    adopt       the connections that are older than the limit, or outlive it
    sidecar     the process in the pod: attach, announce, follow the annotation; and its probe
    run         podrate run: a command in a cgroup of its own
    status      podrate status
    commands    the command line for people
    cli         the entry: what a pod runs, or what a person does
"""
