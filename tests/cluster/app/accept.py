"""accept.py PORT CONNECTIONS SECONDS: read from that many TCP connections for SECONDS from the last one's accept on.

Prints "listening" when it does, and then the bytes of payload that each brought in that time, as JSON.
"""

import json
import selectors
import socket
import sys
import time

port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
listener = socket.create_server(("", port), backlog=connections)
print("listening", flush=True)
with selectors.DefaultSelector() as selector:
    for number in range(connections):
        accepted, _ = listener.accept()
        selector.register(accepted, selectors.EVENT_READ, (number, accepted))
    received, end = [0] * connections, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            number, accepted = key.data
            received[number] += len(accepted.recv(1 << 18))
print(json.dumps(received), flush=True)
