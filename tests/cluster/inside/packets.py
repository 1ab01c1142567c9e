"""In an application: what no socket that is counted sends, as fast as it goes; prints the bit/s that left the pod.

packets.py          frames of its own
packets.py ADDRESS  datagrams to there, of each of which nft sends a copy, and drops the socket's own
"""

import socket
import subprocess
import sys
import time

COPIES = """table ip copies { chain output { type filter hook output priority 0
    ip daddr ADDRESS udp dport 9 dup to ADDRESS
    ip daddr ADDRESS udp dport 9 meta skuid 0 drop
}
}
"""


def sent() -> int:
    with open("/sys/class/net/eth0/statistics/tx_bytes") as file:
        return int(file.read())


if addresses := sys.argv[1:]:
    subprocess.run(["nft", "-f", "-"], input=COPIES.replace("ADDRESS", addresses[0]), text=True, check=True)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((addresses[0], 9))
    frame = bytes(1400)
else:
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind(("eth0", 0))
    frame = b"\xff" * 6 + b"\x02" + b"\0" * 5 + b"\x88\xb5" + b"x" * 1400  # to everybody, of a type for experiments
before, began = sent(), time.monotonic()
for _ in range(3000):
    try:
        sender.send(frame)
    except (PermissionError, ConnectionRefusedError):  # nft dropped it; or nobody listens there, and says so
        assert addresses
print((sent() - before) * 8 / (time.monotonic() - began))
