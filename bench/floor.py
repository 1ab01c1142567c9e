"""What the webhook's stack costs without podrate: the same server, framework and TLS, and a handler that only allows.

python -m bench.floor CERTIFICATE KEY    serves on a free port, which it prints
"""

import asyncio
import sys
from pathlib import Path

import orjson
import uvloop
from fastapi import FastAPI, Request, Response

from webhook import app, server, tls


def create() -> FastAPI:
    """The least that is an admission webhook: read, decode, answer allowed, encode."""
    floor = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def allow(request: Request) -> Response:
        review = orjson.loads(await request.body())
        response = {"uid": review["request"]["uid"], "allowed": True}
        answer = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        return Response(orjson.dumps(answer), media_type="application/json")

    floor.add_route(app.PATH, allow, methods=["POST"])
    return floor


def main() -> None:
    """Serve until killed."""
    floor, listener = server.Server(create()), server.listen(0)
    floor.config.ssl = tls.server_context()
    tls.load(floor.config.ssl, tls.Pair(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]).read_bytes()))
    print(listener.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(floor.serve([listener]))


if __name__ == "__main__":
    main()
