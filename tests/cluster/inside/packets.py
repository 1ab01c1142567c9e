"""In an application: frames past the socket layer, as fast as they go; prints the bit/s that left the pod."""

import socket
import time


def sent() -> int:
    with open("/sys/class/net/eth0/statistics/tx_bytes") as file:
        return int(file.read())


raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
frame = b"\xff" * 6 + b"\x02" + b"\0" * 5 + b"\x88\xb5" + b"x" * 1400  # to everybody, of a type for experiments
before, began = sent(), time.monotonic()
for _ in range(3000):
    raw.send(frame)
print((sent() - before) * 8 / (time.monotonic() - began))
