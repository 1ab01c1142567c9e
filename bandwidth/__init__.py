"""The domain: what a rate is, what a limit is, and how both are written on a Kubernetes object.

No I/O, and nothing outside the standard library. Import the modules, not this package: the loader that sits
in every limited pod needs only `limit`, and pays for every module it imports.

    invalid     the one exception: a value that a person wrote and we can't accept
    rate        "10M" <-> 10_000_000 bit/s
    duration    "20ms" <-> 20_000_000 ns
    limit       what the kernel is told, and the annotation that carries it
    keys        the podrate.io/ keys on an object
    policy      from a pod's keys and its Namespace's to the pod's limit
"""
