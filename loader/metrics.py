"""What a sidecar tells Prometheus, if it is asked to by PODRATE_METRICS_PORT; imported only then.

Its own few lines of HTTP/1.1, in a thread that sleeps between two scrapes: http.server would double the sidecar.
"""

from __future__ import annotations

import _socket  # `socket` is this and an enum for each of its numbers
import _thread

from loader import __version__
from loader.bucket import DIRECTION_NAMES, DIRECTIONS, Buckets
from loader.memory import give_back
from loader.parts import PARTS

_PATIENCE = 2.0  # seconds for each piece of a request
_PIECES, _PIECE = 8, 1024  # of a request, and bytes: Prometheus' has some hundred

# By direction: name, type, help.
_FAMILIES = (
    ("limit_bits_per_second", "gauge", "The limit in force, read from the kernel; absent where there is none."),
    ("passed_bytes_total", "counter", "Bytes on the wire that passed."),
    ("passed_packets_total", "counter", "Packets that passed."),
    ("dropped_bytes_total", "counter", "Bytes on the wire that were dropped."),
    ("dropped_packets_total", "counter", "Packets that were dropped."),
    ("marked_packets_total", "counter", "Packets that told their sender of congestion (ECN, or the kernel's CWR)."),
    ("exempt_packets_total", "counter", "Packets that the limit does not count, such as the pod's to itself."),
    ("throttled_seconds_total", "counter", "Time in which the limit was used up and held senders back."),
    ("debt_seconds", "gauge", "How long what was admitted still takes at the limit."),
    ("held_back", "gauge", "1 while the limit is used up."),
)


def serve(port: str, buckets: Buckets) -> int:
    """Answer GET /metrics on `port` of every address, from now on; returns the port. 0 chooses one.

    Raises ValueError for what is no port, OSError where it can't be had.
    """
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"PODRATE_METRICS_PORT: {port!a} is not a port. Allowed: 1 to 65535. Example: 9095")
    listening = _listen(int(port))
    _thread.start_new_thread(_answer, (listening, buckets))
    return int(listening.getsockname()[1])


def text(buckets: Buckets) -> str:
    """The metrics in Prometheus' text format, version 0.0.4."""
    limit, state = buckets.limit(), buckets.state()
    samples: dict[str, list[str]] = {name: [] for name, _, _ in _FAMILIES}
    for direction, rate in zip(DIRECTIONS, (limit.egress, limit.ingress), strict=True):
        counters, pressure = buckets.counters(direction), buckets.pressure(direction)
        values = {f"{name}_total": value for name, value in counters._asdict().items() if name != "throttled_ns"}
        values["throttled_seconds_total"] = counters.throttled_ns / 1e9
        values["debt_seconds"] = pressure.debt_ns / 1e9
        values["held_back"] = int(pressure.held_back)
        if rate is not None:
            values["limit_bits_per_second"] = rate
        for name, value in values.items():
            samples[name].append(f'podrate_{name}{{direction="{DIRECTION_NAMES[direction]}"}} {value}')
    lines = []
    for name, kind, meaning in _FAMILIES:
        lines += _family(name, kind, meaning, samples[name])
    parts = [
        f'podrate_part_active{{part="{name}"}} {int(bool(state.parts & part))}' for part, (name, _) in PARTS.items()
    ]
    lines += _family("part_active", "gauge", "1 for each part of the shaper that this kernel has: its mode.", parts)
    connections = [f"podrate_connections {state.connections}"]
    lines += _family("connections", "gauge", "Open TCP connections that the shaper has met.", connections)
    build = [f'podrate_build_info{{version="{__version__}"}} 1']
    lines += _family("build_info", "gauge", "The loader's version.", build)
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, meaning: str, samples: list[str]) -> list[str]:
    return [f"# HELP podrate_{name} {meaning}", f"# TYPE podrate_{name} {kind}", *samples]


def _listen(port: int) -> _socket.socket:
    """On IPv6 and IPv4 alike, or on IPv4 where the pod has no other."""
    try:
        return _bound(_socket.AF_INET6, "::", port)
    except OSError:
        return _bound(_socket.AF_INET, "", port)


def _bound(family: int, address: str, port: int) -> _socket.socket:
    listening = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    listening.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
    if family == _socket.AF_INET6:
        listening.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
    listening.bind((address, port))
    listening.listen(8)
    return listening


def _answer(listening: _socket.socket, buckets: Buckets) -> None:
    """One scrape after the other: who asks slowly delays only others who ask."""
    while True:
        try:
            fd, _ = listening._accept()  # type: ignore[attr-defined]
            connection = _socket.socket(fileno=fd)
        except OSError:  # it has gone again
            continue
        try:
            connection.settimeout(_PATIENCE)
            connection.sendall(_response(_request(connection), buckets))
        except OSError:  # a scraper that went away, or that is too slow
            pass
        finally:
            connection.close()
        give_back()


def _request(connection: _socket.socket) -> bytes:
    """The head of a request; what of it came, if it is too long."""
    head = b""
    for _ in range(_PIECES):
        piece = connection.recv(_PIECE)
        head += piece
        if not piece or b"\r\n\r\n" in head:
            break
    return head


def _response(head: bytes, buckets: Buckets) -> bytes:
    method, path, *_ = [*head.split(b"\r\n")[0].split(b" "), b"", b""]
    if b"\r\n\r\n" not in head:
        status, body = "400 Bad Request", "not a request, or too long\n"
    elif path.partition(b"?")[0] != b"/metrics":
        status, body = "404 Not Found", "only /metrics\n"
    elif method not in (b"GET", b"HEAD"):
        status, body = "405 Method Not Allowed", "only GET\n"
    else:
        status, body = "200 OK", text(buckets)
    headers = (
        f"HTTP/1.1 {status}",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*headers, "", "" if method == b"HEAD" else body)).encode()
