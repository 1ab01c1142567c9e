"""podrate attach and detach: the limit of a cgroup that runs on without us."""

from bandwidth.limit import Limit
from bandwidth.rate import format_rate
from loader import bpf, queue
from loader.adopt import Adopter
from loader.failure import Failure
from loader.say import say
from loader.shaper import Shaper, find_attached


def attach(cgroup: str, limit: Limit, *, ingress_queue: bool) -> int:
    """Limit a cgroup, or replace its limit; 0. Raises Failure, and then nothing has changed."""
    with Shaper() as shaper, Adopter() as adopter:
        shaper.buckets.set(limit)
        with queue.changed_for(cgroup, limit.ingress if ingress_queue else None):
            shaper.attach(cgroup, bpf.EXCLUSIVE)
        adopted = adopter.adopt(cgroup, shaper)
    if adopted.mode == "fixed" and adopted.connections > 0 and limit.egress is not None:
        what = f"{adopted.connections} older TCP connection(s) are paced at {format_rate(adopted.pace * 8)}bit/s each"
        say(f"{what} until they close; a pace that adapts needs Linux 6.13 and root")
    return 0


def detach(cgroup: str) -> int:
    """End a cgroup's limit; 0. Raises Failure("not-limited")."""
    attached = find_attached(cgroup)
    if attached is None:
        raise Failure("not-limited", f"{cgroup} has no limit of podrate's", "podrate status lists what has")
    attached.detach()
    attached.close()
    queue.put_for(cgroup, None)
    with Adopter() as adopter:
        adopter.release(cgroup)
    return 0
