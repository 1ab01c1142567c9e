"""The process in the pod: attach, announce, follow the annotation. And the probe that the kubelet asks.

Three directories meet below /run/podrate (the webhook mounts them: webhook/sidecar.py):

    cgroup/   the node's /sys/fs/cgroup, read-only
    limit/    the downward API volume; its file `limit` holds the pod's podrate.io/limit annotation
    state/    in memory, lives as long as the pod, so also over our own restarts
"""

import os
import sys
import time

from bandwidth.invalid import Invalid
from bandwidth.limit import Limit, encode
from loader import bpf
from loader.annotation import Annotation
from loader.bucket import Buckets
from loader.cgroup import find_pod, mount_point
from loader.failure import Failure
from loader.shaper import Shaper, attached_ids
from loader.state import Announced, State

DIRECTORY = "/run/podrate"
_QUEUE = "podrate-in:"  # loader.queue's device in /proc/net/dev: few pods have it, and need that module
PROBE_PATIENCE = 5.0  # seconds: below the probe's timeoutSeconds


def sidecar(directory: str = DIRECTORY, *, once: bool = False) -> int:
    """Run until SIGTERM. The limit stays in force after it: the application still has its own shutdown to send.

    Ends by itself when somebody took the programs away: started again, as the kubelet does, it puts them there anew.

    once:  return when the limit is in force, and leave it so. No process stays; nothing follows the annotation.

    Raises Failure; and then nothing was attached, and the pod does not start.
    """
    source = Annotation(os.path.join(directory, "limit"), "limit")
    state = State(os.path.join(directory, "state"))
    cgroup = find_pod(mount_point(os.path.join(directory, "cgroup")), os.environ.get("POD_UID", ""))
    limit = source.first()
    with Shaper() as shaper:
        shaper.buckets.set(limit)
        queued = _follow_with_queue(limit, queued=_has_queue())  # before the attachment, for it may be refused
        programs = shaper.program_ids
        shaper.attach(cgroup, bpf.EXCLUSIVE, state.own(programs))
        in_force = _read_back(cgroup, shaper, limit)
        state.announce(Announced(cgroup, programs, in_force))
        _log(f"limit {in_force} is in force on {cgroup}")
        if once:
            _log("nothing stays to follow the pod's labels: a change of them takes a new pod")
            return 0
        _serve_metrics(shaper.buckets)
        while source.wait():
            changed = None
            try:
                changed = source.changed()
            except Invalid as error:
                _log(f"annotation: {error}; the limit {in_force} stays in force")
            if changed is not None:
                shaper.buckets.set(changed)
                try:
                    queued = _follow_with_queue(changed, queued=queued)
                except Failure as failure:
                    _log(f"{failure}; the limit is kept without it")
            # Unchanged too: somebody may have detached the programs, or changed their limit by `podrate set`.
            before, in_force = in_force, _read_back(cgroup, shaper, changed)
            if changed is not None or in_force != before:
                state.announce(Announced(cgroup, programs, in_force))
                by = "" if changed is not None else ", set on the node, until the pod's keys change"
                _log(f"limit {in_force} is in force{by}")
    return 0


def _read_back(cgroup: str, shaper: Shaper, written: Limit | None) -> str:
    """The limit that the kernel holds, as text.

    written:  what was written just now, if anything was

    Raises Failure where what is attached, or the limit that was written, is not there.
    """
    found, there = shaper.buckets.limit(), attached_ids(cgroup)
    if there != tuple((each,) for each in shaper.program_ids):
        what = f"{cgroup} has not the programs that were attached to it, but {[id_ for ids in there for id_ in ids]}"
        raise Failure("occupied", what, "find out who changed that (`bpftool cgroup show`); then start podrate again")
    if written and (found.egress, found.ingress) != (written.egress, written.ingress):
        remedy = "report this; the limit in force is the one that was read"
        raise Failure("kernel", f"{cgroup}: {written} was written, and {found} read", remedy)
    return encode(found)


def _follow_with_queue(limit: Limit, *, queued: bool) -> bool:
    """The ingress queue, if this limit has one, in our own network namespace; returns whether it is there now.

    queued:  whether it was there before
    """
    if queued or limit.ingress_queue:
        from loader import queue

        queue.put(limit.ingress if limit.ingress_queue else None)
    return limit.ingress_queue


def _has_queue() -> bool:
    """Whether a loader before us, which was killed, has left one."""
    with open("/proc/self/net/dev") as devices:
        return _QUEUE in devices.read()


def _serve_metrics(buckets: Buckets) -> None:
    """Where the operator asked for them. The limit does not depend on them: what is wrong with the port is a line."""
    if port := os.environ.get("PODRATE_METRICS_PORT"):
        from loader import metrics

        try:
            _log(f"metrics are on port {metrics.serve(port, buckets)}")
        except (ValueError, OSError) as error:
            _log(f"no metrics: {error}")


def probe(directory: str = DIRECTORY) -> int:
    """Wait until the loader announced a limit that it read back, and the kernel holds it attached; then 0.

    Waiting here rather than in the kubelet, which would ask again only after a whole second.
    """
    state = State(os.path.join(directory, "state"))
    deadline = time.monotonic() + PROBE_PATIENCE
    while True:
        announced = state.announced()
        if announced and attached_ids(announced.cgroup) == tuple((each,) for each in announced.programs):
            print(f"limit {announced.limit} is in force on {announced.cgroup}")
            return 0
        if time.monotonic() > deadline:
            what = "the loader has not attached a limit yet" if not announced else "other programs are attached"
            raise Failure("not-limited", what, "read the loader's log: kubectl logs POD -c podrate")
        time.sleep(0.01)


def _log(line: str) -> None:
    print(f"podrate: {line}", file=sys.stderr, flush=True)
