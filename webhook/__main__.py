"""python -m webhook: see webhook.options for what it takes."""

import asyncio
import sys

import uvloop

from webhook import log, options, server
from webhook.certificate import Provided, Source
from webhook.unavailable import Unavailable


def main() -> int:
    """Run until SIGTERM. 0 then, 1 and one line when it can't start, 2 and one line for bad options."""
    given = options.parse()
    log.capture_libraries()
    try:
        source = _source(given.certificate)
        listeners = server.listen(given.port), server.listen(given.health_port)
    except (Unavailable, OSError) as error:
        sys.stderr.write(f"python -m webhook: {error}\n")
        return 1
    log.event("listening", port=listeners[0].getsockname()[1], health_port=listeners[1].getsockname()[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(server.serve(given.settings, source, *listeners))
    return 0


def _source(certificate: options.Files | options.SelfSigned) -> Source:
    if isinstance(certificate, options.Files):
        return Provided(certificate.certificate, certificate.key)
    # The client of the API server takes a third of a second to import, and 11 MB: only who asks it does.
    from webhook.api import Api
    from webhook.cluster import Cluster

    return Cluster(Api(), certificate)


if __name__ == "__main__":
    sys.exit(main())
