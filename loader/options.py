"""What several commands take: the options that make a limit (--bandwidth, --egress, ...), and TARGET."""

import argparse

from bandwidth.duration import parse_duration
from bandwidth.limit import Limit
from bandwidth.policy import refuse_short
from bandwidth.rate import parse_rate
from loader.failure import Failure


def add_rates(parser: argparse.ArgumentParser, also: str = "") -> None:
    """Declare the rates and the burst."""
    form = "in bits per second: 10M, 1.5G, 500k, 64Mi; from 1k to 1T"
    parser.add_argument("--bandwidth", metavar="RATE", help=f"both directions, {form}{also}")
    parser.add_argument("--egress", metavar="RATE", help="what it sends; wins over --bandwidth")
    parser.add_argument("--ingress", metavar="RATE", help="what it receives; wins over --bandwidth")
    burst = "how much may pass at once after silence, as the time that it takes at the limit: 20ms; from 1ms to 10s"
    parser.add_argument("--burst", metavar="TIME", help=burst + also.replace("no limit", "what suits the limit best"))


def add_queue(parser: argparse.ArgumentParser) -> None:
    """Declare the ingress queue."""
    queue = "let TCP that arrives above the limit wait, in a queue in the network namespace, rather than drop it"
    parser.add_argument("--ingress-queue", action="store_true", help=queue)


def add_target(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    """Declare TARGET; nargs: "?" where it may be left out."""
    forms = "its directory, a process's PID, a systemd unit (nginx.service), a pod's UID, or a pod's NAMESPACE/NAME"
    parser.add_argument("target", nargs=nargs, metavar="TARGET", help=f"a cgroup: {forms}")


def asked(options: argparse.Namespace, *, none: bool = False) -> dict[str, int | None]:
    """The rates in bit/s and the burst in ns that were given, by option; None where it says none. Raises Invalid."""
    given: dict[str, int | None] = {}
    for name in ("bandwidth", "egress", "ingress", "burst"):
        text = getattr(options, name)
        if text is not None:
            parse = parse_duration if name == "burst" else parse_rate
            given[name] = None if none and text == "none" else parse(text, f"--{name}")
    if not given:
        raise _no_rate()
    return given


def limit(options: argparse.Namespace) -> Limit:
    """The limit that was asked for. Raises Invalid, or Failure("usage") for one that is none."""
    given = asked(options)
    both, burst = given.get("bandwidth"), given.get("burst")
    egress, ingress = given.get("egress", both), given.get("ingress", both)
    rates = [rate for rate in (egress, ingress) if rate]
    if not rates:
        raise _no_rate()
    if burst:
        refuse_short("--burst", options.burst, burst, min(rates), example="--burst")
    if options.ingress_queue and ingress is None:
        what = "--ingress-queue without an ingress limit, so there is nothing to queue"
        raise Failure("usage", what, "give --ingress or --bandwidth, for example --ingress 10M")
    return Limit(egress, ingress, burst, options.ingress_queue)


def _no_rate() -> Failure:
    remedy = "give --egress, --ingress or --bandwidth, for example --egress 10M"
    return Failure("usage", "no rate was given", remedy)
