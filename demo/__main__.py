"""The demo: `python -m demo`, as root. Exit code 0: every limit was kept; 1: one was missed; 2: it can't run here."""

import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from bandwidth.keys import BANDWIDTH
from bandwidth.limit import ANNOTATION, decode
from bandwidth.rate import format_rate
from bench.command import LabError, require, terminable
from bench.lab import Lab
from demo import screen
from demo.admission import Webhook, labelled, patched, stored, submitted
from demo.node import Json, Node
from demo.traffic import Meter, Phase, Recorded, send
from loader.failure import Failure

_ROOT = Path(__file__).parent.parent
POD = _ROOT / "examples" / "pod.yaml"
PICTURE = _ROOT / "build" / "demo" / "throughput.png"
RESULT = _ROOT / "build" / "demo" / "result.json"

BAD = "10m"
CHANGED = "50M"
UNLIMITED_SECONDS, LIMITED_SECONDS, CHANGED_SECONDS = 3, 6, 6
_SETTLE = 0.5  # seconds at a phase's start that are not measured: TCP's slow start, and the change itself
_PATIENCE = 5.0  # seconds that the loader may take to follow a change


@dataclass(frozen=True)
class Outcome:
    """What the demo measured. Times in seconds.

    labels:     of the limited phases
    attached:   from the sidecar's start to its startup probe's success
    in_kernel:  from the change of the annotation's file to the new rate in the kernel's map
    in_traffic: from there to the first 0.1 s that carried the new rate; None if none did
    """

    recorded: tuple[Recorded, ...]
    phases: tuple[Phase, ...]
    labels: tuple[str, ...]
    attached: float
    in_kernel: float
    in_traffic: float | None


def main() -> int:
    """Run the demo; returns the exit code."""
    console = Console(highlight=False)
    try:
        require("ip", "nsenter", "iperf3", "unshare", "setpriv", "mount")
        with terminable():
            with Webhook() as webhook:
                pod = _admit(console, webhook)
                with Lab() as lab, Node(lab.pod, pod) as node, Meter(lab.peer) as meter:
                    outcome = _limit(console, webhook, lab, node, meter, pod)
            return _report(console, outcome)
    except (LabError, Failure) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("demo: interrupted; what it made is removed", file=sys.stderr)
        return 130


def _admit(console: Console, webhook: Webhook) -> Json:
    """What the webhook makes of the pod, and of a mistake. Returns the pod as the API server stores it."""
    pod = submitted(yaml.safe_load(POD.read_text()))
    asked = f"{BANDWIDTH}: {pod['metadata']['labels'][BANDWIDTH]}"
    screen.heading(console, f"The API server asks the webhook about examples/pod.yaml, labelled {asked}")
    answer = webhook.create(pod)
    if not answer.allowed:
        raise LabError(f"webhook: {POD.name} was rejected: {answer.message}")
    screen.show_patch(console, pod, patched(pod, answer.patch))

    screen.heading(console, f"The same pod, labelled {BANDWIDTH}: {BAD}")
    refusal = webhook.create(labelled(pod, {BANDWIDTH: BAD}))
    if refusal.allowed:
        raise LabError(f"webhook: it allowed {BANDWIDTH}: {BAD}")
    screen.show_rejection(console, refusal.code, refusal.message)
    return stored(pod, answer.patch)


def _limit(console: Console, webhook: Webhook, lab: Lab, node: Node, meter: Meter, pod: Json) -> Outcome:
    """Traffic before the sidecar starts, after it, and over a change of the label."""
    screen.heading(console, "iperf3 in the pod's cgroup")
    with screen.Gauge(console) as gauge:
        gauge.begin("unlimited", None)
        free = send(lab, node.app, meter, UNLIMITED_SECONDS, lambda _: gauge.show(meter.rate()))

        attached = node.start_sidecar()
        before = _egress(pod)
        gauge.begin(f"podrate sidecar: {format_rate(before)}", before)
        change: list[tuple[int, float, float]] = []

        def tick(elapsed: float) -> None:
            if elapsed >= LIMITED_SECONDS and not change:
                change.append(_change(webhook, node, pod))
                gauge.begin(f"label changed: {format_rate(change[0][0])}", change[0][0])
            gauge.show(meter.rate())

        limited = send(lab, node.app, meter, LIMITED_SECONDS + CHANGED_SECONDS, tick)
    if not change:
        raise LabError("iperf3: it ended before the label was changed")
    after, changed_at, in_kernel = change[0]
    reached = meter.reached(after, changed_at)
    phases = (
        free.phase("unlimited", None, free.begun, free.end, _SETTLE),
        limited.phase("limited", before, limited.begun, changed_at, _SETTLE),
        limited.phase("label changed", after, changed_at, limited.end, _SETTLE),
    )
    labels = pod["metadata"]["labels"][BANDWIDTH], CHANGED
    return Outcome((free, limited), phases, labels, attached, in_kernel, reached and reached - changed_at)


def _change(webhook: Webhook, node: Node, pod: Json) -> tuple[int, float, float]:
    """Change the running pod's label. Returns the new rate, when the file changed, and the seconds to the kernel."""
    wanted = labelled(pod, {BANDWIDTH: CHANGED})
    answer = webhook.update(wanted, pod)
    if not answer.allowed:
        raise LabError(f"webhook: the update was rejected: {answer.message}")
    updated = stored(wanted, answer.patch)
    rate = _egress(updated)
    changed_at = node.update(updated)
    while node.limit_in_force() != rate:
        if time.monotonic() > changed_at + _PATIENCE:
            raise LabError(f"sidecar: the kernel has no new rate {_PATIENCE:g} s after the change")
        time.sleep(0.001)
    return rate, changed_at, time.monotonic() - changed_at


def _egress(pod: Json) -> int:
    """The limit in the annotation that the webhook wrote, in bits/s."""
    rate = decode(pod["metadata"]["annotations"][ANNOTATION]).egress
    if rate is None:
        raise LabError(f"demo: the pod of {POD.name} asks for no egress limit")
    return rate


def _report(console: Console, outcome: Outcome) -> int:
    """Print the table, write the picture and result.json; returns the exit code."""
    screen.heading(console, "What came of it")
    screen.show_table(console, outcome.phases)
    console.print(f"\n  the sidecar held its pod's limit {outcome.attached:.2f} s after its start")
    seen = "never" if outcome.in_traffic is None else f"{outcome.in_traffic:.2f} s"
    console.print(f"  after the annotation's change: in the kernel {outcome.in_kernel:.2f} s, in the traffic {seen}")
    from demo import plot  # matplotlib takes its time: only now that all else is on the screen

    captions = ["before the sidecar starts", *(f"{BANDWIDTH}: {rate}" for rate in outcome.labels)]
    plot.draw(PICTURE, outcome.recorded, outcome.phases, captions)
    result = {
        "kernel": platform.release(),
        "phases": [
            {
                "name": phase.name,
                "limit_bits": phase.limit,
                "goodput_bits": round(phase.goodput),
                "ratio": None if phase.ratio is None else round(phase.ratio, 4),
            }
            for phase in outcome.phases
        ],
        "change_seconds": {"kernel": outcome.in_kernel, "throughput": outcome.in_traffic},
        "attach_seconds": outcome.attached,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    console.print(f"  {PICTURE.relative_to(_ROOT)}, {RESULT.relative_to(_ROOT)}\n")
    missed = [phase.name for phase in outcome.phases if not phase.kept] + ["the change"] * (outcome.in_traffic is None)
    if missed:
        print(f"demo: missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
