"""receive.py PORT SECONDS: count the wire bytes of the datagrams that arrive within SECONDS of the first one.

When each arrived is the kernel's word: on a busy machine we read them late. Prints "listening" when it does, and the
count as JSON at the end.
"""

import json
import socket
import struct
import sys

HEADERS = 14 + 20 + 8  # Ethernet, IPv4, UDP
SO_TIMESTAMPNS = 35  # of asm-generic/socket.h; also the type of the message that it adds
TIME = struct.Struct("@ll")

port, seconds = int(sys.argv[1]), float(sys.argv[2])
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
receiver.bind(("", port))
receiver.settimeout(60)
print("listening", flush=True)
received, first = 0, None
while True:
    try:
        data, ((_, _, time),), _, _ = receiver.recvmsg(65536, socket.CMSG_SPACE(TIME.size))
    except TimeoutError:
        break
    arrived = sum(part * unit for part, unit in zip(TIME.unpack(time), (1, 1e-9), strict=True))
    first = first or arrived
    if arrived - first > seconds:
        break
    received += len(data) + HEADERS
    receiver.settimeout(seconds)
print(json.dumps({"wire_bytes": received}), flush=True)
