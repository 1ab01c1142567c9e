"""How long 64 bytes take to a peer and back: the latency that a limit costs its pod.

    echo.py serve                                  answers until it is ended; prints its port
    echo.py ask ADDRESS PORT SECONDS INTERVAL      prints one time a line, in microseconds

Started by its path inside a namespace and cgroup, so it imports the standard library alone. One request is under
way at a time, as in netperf's TCP_RR, and one starts every INTERVAL seconds unless the last answer is late.
"""

import socket
import sys
import threading
import time

SIZE = 64  # bytes of a request and of its answer
_PATIENCE = 5  # seconds after the end that the last answer is waited for


def serve() -> None:
    """Answer every connection until the process is ended."""
    # One socket for IPv4 and IPv6.
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while request := connection.recv(SIZE, socket.MSG_WAITALL):
            connection.sendall(request)


def ask(address: str, port: int, seconds: float, interval: float) -> list[float]:
    """Microseconds from request to answer. An answer that never came counts with the time it was waited for."""
    times: list[float] = []
    with socket.create_connection((address, port), timeout=_PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        while (begun := time.perf_counter()) < start + seconds:
            connection.settimeout(start + seconds + _PATIENCE - begun)
            try:
                connection.sendall(bytes(SIZE))
                answer = connection.recv(SIZE, socket.MSG_WAITALL)
            except TimeoutError:
                answer = b""
            done = time.perf_counter()
            times.append((done - begun) * 1e6)
            if len(answer) < SIZE:
                break
            time.sleep(max(0, begun + interval - done))
    return times


def main() -> None:
    """Serve or ask, by the command line."""
    if sys.argv[1:] == ["serve"]:
        serve()
    _, mode, address, port, seconds, interval = sys.argv
    if mode != "ask":
        raise SystemExit(f"echo: {mode}: serve or ask")
    for microseconds in ask(address, int(port), float(seconds), float(interval)):
        print(f"{microseconds:.1f}")


if __name__ == "__main__":
    main()
