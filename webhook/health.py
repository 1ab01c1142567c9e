"""/livez, /readyz and /metrics, an ASGI application for a plain port of its own.

Probes and Prometheus then need no certificate, and a NetworkPolicy can leave the port to them alone.
"""

from collections.abc import Iterable
from typing import Any

from webhook import log
from webhook.metrics import CONTENT_TYPE, Metrics


class Health:
    """Whether the process is ready to be called by the API server.

    unready:  why it isn't, in one line for each part that isn't; empty once it is
    """

    def __init__(self, metrics: Metrics, parts: Iterable[str]) -> None:
        self._metrics = metrics
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
        status, text, content_type = 200, "ok", "text/plain; charset=utf-8"
        match scope["path"]:
            case _ if scope["method"] not in ("GET", "HEAD"):
                status, text = 405, "only GET is served"
            case "/livez":  # the event loop turns: that is all that a restart could mend
                pass
            case "/readyz":
                if self.unready:
                    status, text = 503, "\n".join(f"{part}: {reason}" for part, reason in self.unready.items())
            case "/metrics":
                text, content_type = self._metrics.text(), CONTENT_TYPE
            case _:
                status, text = 404, "only /livez, /readyz and /metrics are served"
        body = f"{text}\n".encode("ascii", "backslashreplace")
        headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
