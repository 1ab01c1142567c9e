"""The loader: puts a limit on a cgroup, in the kernel, and keeps it true.

From the bottom up; each module imports only from those above it:

    say         lines for a person, safe for a terminal
    lean        records without `typing`, for what each pod holds in memory
    failure     the one exception that ends a command: a reason code, a line, a remedy, an exit code
    libbpf      libbpf.so.1 as C declares it: only what we use
    bpf         the typed API on top: object spec, loaded object, maps, programs, attachments
    cgroup      where cgroup v2 is mounted, a pod's cgroup by its UID
    bucket      a Limit as the kernel holds it; the counters
    shaper      the programs, loaded and attached to a cgroup
    attached    those that are found on one, whoever attached them; who else is there
    transient   a cgroup of our own
    preflight   why the kernel refuses; imported only when it did
    namespace   a cgroup's processes, and their network namespaces
    queue       the ingress queue, for those who ask for it
    libnl       libnl-route-3.so.200 as C declares it; imported only where there is a queue
    ifb         the queue's device, qdisc and filters
    adopt       the connections that are older than the limit, or outlive it
    memory      what a process that waits gives back
    annotation  the file that carries the limit into the pod, and the wait for its change
    state       what a pod's loader leaves for its probe and for its next run
    sidecar     the process in the pod: attach, announce, follow the annotation; and its probe
    pods        a pod's UID in a cgroup's path; its name
    target      what a person calls a cgroup, resolved
    figures     measured figures as people read them
    meter       what a shaper did between two looks
    watch       the limited cgroups of this machine, look after look
    run         podrate run: a command in a cgroup of its own
    attach      podrate attach, set and detach
    status      podrate status
    options     what several commands take: those that make a limit, and TARGET
    limiting    what run, attach, set and detach take, with examples
    looking     what status, top and doctor take
    commands    all of them by name
    parser      the one parser, of our commands and of those that other packages add
    completion  made of it: for bash, zsh and fish
    manual      made of it: the man page and docs/cli.md
    cli         the entry: what a pod runs, or what a person does
"""

__version__ = "0.1.0"
