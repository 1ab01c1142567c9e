"""receive.py PORT SECONDS: count the wire bytes of the datagrams that arrive within SECONDS of the first one.

Prints "listening" when it does, and the count as JSON at the end.
"""

import json
import socket
import sys
import time

HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP

port, seconds = int(sys.argv[1]), float(sys.argv[2])
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("", port))
receiver.settimeout(60)
print("listening", flush=True)
received = len(receiver.recv(65536)) + HEADERS
first, end = time.time(), time.monotonic() + seconds
while (left := end - time.monotonic()) > 0:
    receiver.settimeout(left)
    try:
        received += len(receiver.recv(65536)) + HEADERS
    except TimeoutError:
        break
print(json.dumps({"first": first, "wire_bytes": received}), flush=True)
