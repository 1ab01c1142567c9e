"""/livez and /readyz, an ASGI application for a plain port of its own.

The kubelet's probes then need no certificate, and a NetworkPolicy can leave them to the node alone.
"""

from collections.abc import Iterable
from typing import Any

from webhook import log


class Health:
    """Whether the process is ready to be called by the API server.

    unready:  why it isn't, in one line for each part that isn't; empty once it is
    """

    def __init__(self, parts: Iterable[str] = ()) -> None:
        self.unready = dict.fromkeys(parts, "starting")

    def set(self, part: str, reason: str | None) -> None:
        """`part` is ready, or is not for `reason`."""
        before = self.unready.pop(part, None)
        if reason is not None:
            self.unready[part] = reason
        if reason != before and (reason is not None or not self.unready):
            log.event("not ready" if self.unready else "ready", **self.unready)

    async def __call__(self, scope: dict[str, Any], _receive: object, send: Any) -> None:  # noqa: ANN401  ASGI's own
        """Answer one request."""
        match scope["path"]:
            case "/livez":  # the event loop turns: that is all that a restart could mend
                status, text = 200, "ok"
            case "/readyz" if self.unready:
                status, text = 503, "\n".join(f"{part}: {reason}" for part, reason in self.unready.items())
            case "/readyz":
                status, text = 200, "ok"
            case _:
                status, text = 404, "only /livez and /readyz are served"
        if scope["method"] not in ("GET", "HEAD"):
            status, text = 405, "only GET is served"
        body = f"{text}\n".encode("ascii", "backslashreplace")
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
