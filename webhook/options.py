"""The command line of the webhook."""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from webhook.bounds import excess
from webhook.sidecar import Settings

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_OBJECT_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Files:
    """A certificate from elsewhere, as PEM files; and the authorities to trust, unless somebody else sees to that."""

    certificate: Path
    key: Path
    authorities: Path | None = None


@dataclass(frozen=True)
class SelfSigned:
    """A certificate of our own: for this Service, kept in this Secret."""

    service: str
    namespace: str
    secret: str


@dataclass(frozen=True)
class Options:
    """All that the process is told.

    configuration:  the MutatingWebhookConfiguration that must trust the certificate; None outside of a cluster
    overlap:        seconds that a new certificate is trusted before it is served in place of a good one
    drain:          seconds without a request that end the process after SIGTERM
    """

    settings: Settings
    port: int
    health_port: int
    certificate: Files | SelfSigned
    configuration: str | None
    overlap: float
    drain: float


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line; argparse would print the usage before it."""
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def parse(arguments: list[str] | None = None) -> Options:
    """The options in `arguments`, by default the process's. Ends the process with status 2 and one line when bad."""
    parser = _Parser(
        prog="python -m webhook",
        description="Admission webhook of podrate: adds the loader to pods that ask for a bandwidth limit.",
        epilog="example: python -m webhook --loader-image example/podrate:0.1 --certificate tls.crt --key tls.key",
        allow_abbrev=False,
    )
    parser.add_argument("--loader-image", required=True, metavar="IMAGE", type=_image, help="image of the sidecar")
    parser.add_argument(
        "--loader-image-pull-policy",
        metavar="POLICY",
        choices=("Always", "IfNotPresent", "Never"),
        help="its imagePullPolicy: Always, IfNotPresent or Never (default: left to Kubernetes)",
    )
    defaults = Settings("")
    parser.add_argument(
        "--loader-image-pull-secrets",
        metavar="NAME,...",
        type=_names,
        default=defaults.pull_secrets,
        help="Secrets of the pods' namespaces that its registry needs (default: none)",
    )
    for which, quantities in (("requests", defaults.requests), ("limits", defaults.limits)):
        parser.add_argument(
            f"--loader-{which}",
            metavar="RESOURCE=QUANTITY,...",
            type=_quantities,
            default=quantities,
            help=f"its resources.{which} (default: {','.join(map('='.join, quantities.items()))})",
        )
    parser.add_argument(
        "--loader-once",
        action="store_true",
        help="let it end when the limit is in force: nothing resident, and a change takes a new pod",
    )
    parser.add_argument(
        "--loader-metrics-port", metavar="PORT", type=_metrics_port, help="of each pod, for its metrics (default: none)"
    )
    parser.add_argument(
        "--sandboxed-runtime-classes",
        metavar="PATTERN,...",
        type=_patterns,
        default=defaults.sandboxes,
        help=f"whose pods no limit reaches; * for anything (default: {','.join(defaults.sandboxes)})",
    )
    parser.add_argument(
        "--kubernetes-annotations",
        action="store_true",
        help="let kubernetes.io/egress-bandwidth and ingress-bandwidth ask for a limit too",
    )
    parser.add_argument("--port", type=_port, default=10250, help="of POST /mutate, TLS (default: %(default)s, 0: any)")
    parser.add_argument(
        "--health-port",
        type=_port,
        default=8080,
        help="of /livez and /readyz, plain (default: %(default)s, 0: any)",
    )
    parser.add_argument(
        "--drain",
        metavar="SECONDS",
        type=_seconds,
        default=5,
        help="without a request that end it after SIGTERM: nobody is sent to us any more (default: %(default)s)",
    )
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        type=_object_name,
        help="our MutatingWebhookConfiguration, in the cluster that we run in: ready is who it trusts",
    )
    parser.add_argument(
        "--overlap",
        metavar="SECONDS",
        type=_seconds,
        default=60,
        help="that a new certificate is trusted before it is served in place of a good one (default: %(default)s)",
    )
    provided = parser.add_argument_group("a certificate from elsewhere", "the files are read again when they change")
    provided.add_argument("--certificate", metavar="FILE", type=_file, help="PEM, leaf first")
    provided.add_argument("--key", metavar="FILE", type=_file, help="PEM, not encrypted")
    provided.add_argument(
        "--authorities",
        metavar="FILE",
        type=_file,
        help="PEM, whom --configuration is made to trust (default: somebody else sees to that)",
    )
    own = parser.add_argument_group("a certificate of our own", "made here and kept in the cluster that we run in")
    own.add_argument("--self-signed", action="store_true", help="with --configuration and all of the following")
    own.add_argument("--service", metavar="NAME", type=_dns_label, help="the Service in front of us")
    own.add_argument("--namespace", metavar="NAME", type=_dns_label, help="of the Service and the Secret")
    own.add_argument("--secret", metavar="NAME", type=_object_name, help="shared by the replicas")
    given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if given.loader_once and given.loader_metrics_port:
        parser.error("--loader-metrics-port: not with --loader-once, which leaves nobody to serve them")
    for resource in excess(given.loader_requests, given.loader_limits):
        asked, most = given.loader_requests[resource], given.loader_limits[resource]
        parser.error(f"--loader-requests: {resource}={asked} is more than --loader-limits has, {most}")
    settings = Settings(
        image=given.loader_image,
        pull_policy=given.loader_image_pull_policy,
        pull_secrets=given.loader_image_pull_secrets,
        requests=given.loader_requests,
        limits=given.loader_limits,
        sandboxes=given.sandboxed_runtime_classes,
        kubernetes_annotations=given.kubernetes_annotations,
        once=given.loader_once,
        metrics_port=given.loader_metrics_port,
    )
    certificate = _certificate(parser, given)
    return Options(
        settings, given.port, given.health_port, certificate, given.configuration, given.overlap, given.drain
    )


def _certificate(parser: _Parser, given: argparse.Namespace) -> Files | SelfSigned:
    files = {"--certificate": given.certificate, "--key": given.key}
    names = {f"--{name}": getattr(given, name) for name in ("service", "namespace", "secret")}
    if given.self_signed:
        mode, wanted, other = "--self-signed", names, files | {"--authorities": given.authorities}
        wanted |= {"--configuration": given.configuration}
    else:
        mode, wanted, other = "without --self-signed", files, names
    if missing := [option for option, value in wanted.items() if value is None]:
        parser.error(f"{mode}: {', '.join(missing)} missing")
    if extra := [option for option, value in other.items() if value is not None]:
        parser.error(f"{mode}: {', '.join(extra)} not allowed")
    if given.authorities and not given.configuration:
        parser.error("--authorities: --configuration missing, which is to trust them")
    if given.self_signed:
        return SelfSigned(given.service, given.namespace, given.secret)
    return Files(given.certificate, given.key, given.authorities)


def _image(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"{text!a} is not an image's name, for example podrate-loader:0.1.0")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_object_name(name) for name in text.split(",") if text)


def _quantities(text: str) -> dict[str, str]:
    quantities = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    pairs = (f"{resource}={quantity}" for resource, quantity in quantities.items())
    if ",".join(pairs) != text or not all(map(_QUANTITY.fullmatch, quantities.values())):
        raise argparse.ArgumentTypeError(f"{text!a} is not a list of resources, for example cpu=1m,memory=16Mi")
    return quantities


def _patterns(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"([-.a-z0-9*]+(,[-.a-z0-9*]+)*)?", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a list of runtime classes, for example gvisor,kata-*")
    return tuple(pattern for pattern in text.split(",") if pattern)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!a} is not a port, 0 to 65535")
    return int(text)


def _metrics_port(text: str) -> int:
    port = _port(text)
    if not port:
        raise argparse.ArgumentTypeError("0 is not a port that Prometheus could know, 1 to 65535, for example 9095")
    return port


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a number of seconds, 0 to 9999, for example 60")
    return float(text)


def _file(text: str) -> Path:
    path = Path(text)
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!a}: {error.strerror}") from None


def _dns_label(text: str) -> str:
    if not _DNS_LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a name of lower case letters, digits and -, at most 63")
    return text


def _object_name(text: str) -> str:
    if not _OBJECT_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!a} is not a name of lower case letters, digits, - and ., at most 253")
    return text
