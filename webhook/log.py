"""The log: one JSON object a line on standard output. Never a whole Kubernetes object, never a key."""

import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime

import orjson

_LONGEST = 500  # characters of one field: a line names things, it does not carry them
# A pipe takes 4096 bytes at once, and a line may have more: while the pipe is full another thread's could come between.
_WHOLE = threading.Lock()


def event(what: str, **fields: str | int) -> None:
    """Write one line: the time, `what` happened, and `fields`.

    It is lost where nobody reads, or standard output is full and does not block: no review fails for that.
    """
    for key, value in fields.items():
        if isinstance(value, str):
            fields[key] = value[:_LONGEST]
    now = datetime.now(UTC)
    try:
        line = orjson.dumps({"time": now, "event": what, **fields}, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # half a surrogate pair, such as a file's name has that is not UTF-8
        time = now.isoformat().replace("+00:00", "Z")
        line = json.dumps({"time": time, "event": what, **fields}).encode() + b"\n"
    with _WHOLE:
        try:
            while line:  # a signal can cut a write short
                line = line[os.write(sys.stdout.fileno(), line) :]
        except OSError:
            return


class _Handler(logging.Handler):
    """What the libraries log, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"level": record.levelname, "logger": record.name, "message": record.getMessage().strip()}
        if record.exc_info:
            # Its end: that is where the error is, and no line may grow without bound.
            fields["trace"] = logging.Formatter().formatException(record.exc_info)[-_LONGEST:]
        event("log", **fields)


def capture_libraries() -> None:
    """Send the warnings of uvicorn, asyncio and urllib3 to our log instead of standard error."""
    logging.basicConfig(handlers=[_Handler()], level=logging.WARNING, force=True)
