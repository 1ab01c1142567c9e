"""connect.py HOST PORT CONNECTIONS SECONDS: send on that many TCP connections as fast as they go, until one is closed.

Prints how many were made, and when every one of them was, in seconds from the start.
"""

import contextlib
import json
import selectors
import socket
import sys
import time

host, port, connections, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
began = time.monotonic()
with selectors.DefaultSelector() as selector:
    for _ in range(connections):
        sender = socket.create_connection((host, port), timeout=30)
        sender.setblocking(False)
        selector.register(sender, selectors.EVENT_WRITE, sender)
    made = time.monotonic() - began
    with contextlib.suppress(ConnectionError):
        while (left := began + made + seconds - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.send(bytes(4096))
print(json.dumps({"connections": connections, "made_after": made}), flush=True)
