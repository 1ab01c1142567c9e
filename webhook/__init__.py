"""The admission service: a pod that asks for a limit gets the loader, and a bad limit is explained at `kubectl apply`.

    request      what is asked for, and what its raw objects are read with
    review       the AdmissionReview on the wire: parsed from bytes, answered in bytes
    pod          the few fields of a raw pod that we look at
    sidecar      the container and the volumes that we add; what the operator chooses about them
    likeness     whether a container by our name is ours
    patch        from a pod and its limit to a minimal JSON Patch
    decision     what was decided, and why
    decide       from a request to allowed, patched or rejected: which rule is whose, and no I/O
    pods         a pod that is created, and one that runs and is changed
    workload     Deployments and others: their template, judged as a pod
    subresources ephemeral containers, exec and Bindings: the ways past a pod's own admission
    collection   objects of the API server's, kept current by a watch
    namespaces   the cluster's Namespaces, by such a watch
    namespace    a Namespace's defaults and caps, and whether it may have them
    obstacles    where no limit could be kept
    bounds       what LimitRanges and ResourceQuotas say of the loader
    advice       the warnings
    check        podrate check: the same decision on files, offline
    manifests    the objects in such files
    app          POST /mutate
    health       /livez, /readyz and /metrics, on a port of their own
    metrics      what is counted
    proof        what `helm test` runs
    tls          certificates: an authority, its leaf, the context that serves it, who would trust it
    certificate  where the served one comes from: files, or a Secret
    selfsigned   how the replicas agree on one in that Secret
    trust        the caBundle of each entry of our configuration
    reload       keeps the certificate and that trust current
    api          the API server: paths and raw objects
    unavailable  what to catch when something can't be had just now
    options      the command line
    server       the process: both servers, readiness, SIGTERM
    log          one JSON object a line

Raw dicts all the way: a model would drop the fields of a newer Kubernetes that it does not know.
"""
