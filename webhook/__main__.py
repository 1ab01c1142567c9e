"""python -m webhook: see webhook.options for what it takes."""

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

from webhook import app, log, options, server, trust
from webhook.api import Api
from webhook.certificate import FromFiles, FromSecret, Source, secrets
from webhook.metrics import Metrics
from webhook.namespaces import Namespaces, Nowhere, Watched
from webhook.options import Files, Options, SelfSigned
from webhook.reload import Keeper, watch
from webhook.trust import Configuration
from webhook.unavailable import Unavailable


def main() -> int:
    """Run until SIGTERM. 0 then, 1 and one line when it can't start, 2 and one line for bad options."""
    given = options.parse()
    log.capture_libraries()
    try:
        # Outside of a cluster there is a certificate from files, and nobody to ask.
        api = Api() if given.configuration else None
        listeners = server.listen(given.port), server.listen(given.health_port)
    except (Unavailable, OSError) as error:
        sys.stderr.write(f"python -m webhook: {error}\n")
        return 1
    log.event("listening", port=listeners[0].getsockname()[1], health_port=listeners[1].getsockname()[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given, api, *listeners))
    return 0


async def _serve(given: Options, api: Api | None, reviews_on: socket.socket, probes_on: socket.socket) -> None:
    configuration = Configuration(api, given.configuration) if api and given.configuration else None
    keeper = Keeper(_source(given.certificate, api, given.configuration), configuration, given.overlap)
    if api and given.configuration:
        watch(api, trust.COLLECTION, given.configuration, keeper.wake)
        if isinstance(given.certificate, SelfSigned):
            watch(api, secrets(given.certificate.namespace), given.certificate.secret, keeper.wake)
    metrics = Metrics()
    metrics.gauge("certificate_expiry_timestamp_seconds", "When the served certificate ends.", keeper.expiry)
    starts: dict[str, Callable[[], Awaitable[None]]] = {}
    namespaces: Namespaces = Nowhere()
    if api:
        namespaces = watched = Watched(api)
        starts["namespaces"] = watched.start
        what = "Time since the API server last said something of Namespaces."
        metrics.gauge("namespaces_age_seconds", what, watched.age)
    application = app.create(given.settings, namespaces, metrics)
    await server.serve(application, metrics, keeper, starts, reviews_on, probes_on, given.drain)


def _source(certificate: Files | SelfSigned, api: Api | None, configuration: str | None) -> Source:
    if isinstance(certificate, Files):
        return FromFiles(certificate)
    # --self-signed comes with --configuration
    return FromSecret(cast(Api, api), certificate, cast(str, configuration))


if __name__ == "__main__":
    sys.exit(main())
