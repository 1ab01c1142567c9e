"""/livez and /readyz, an ASGI application for a plain port of its own.

The kubelet's probes then need no certificate, and a NetworkPolicy can leave them to the node alone.
"""

from typing import Any


class Health:
    """Whether the process is ready to be called by the API server.

    unready:  why it isn't, in one line; None once it is
    """

    def __init__(self) -> None:
        self.unready: str | None = "starting"

    async def __call__(self, scope: dict[str, Any], _receive: object, send: Any) -> None:  # noqa: ANN401  ASGI's own
        """Answer one request."""
        match scope["path"]:
            case "/livez":  # the event loop turns: that is all that a restart could mend
                status, line = 200, "ok"
            case "/readyz":
                status, line = (200, "ok") if self.unready is None else (503, self.unready)
            case _:
                status, line = 404, "only /livez and /readyz are served"
        if scope["method"] not in ("GET", "HEAD"):
            status, line = 405, "only GET is served"
        body = f"{line}\n".encode("ascii", "backslashreplace")
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
