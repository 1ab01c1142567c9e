"""What a pod's UDP at twice the limit does to its TCP.

The flood is this file, started by its path inside a namespace and cgroup (so it imports the standard library alone
until it is imported), for iperf3 gives up at the first send that is refused, and here those are counted:

    flood.py ADDRESS RATE SECONDS      prints how many datagrams were sent, and how many refused
"""

import errno
import socket
import sys
import time

SIZE = 1400  # bytes of payload
PORT = 9  # discard(7): nobody listens, and the kernel counts what arrived for nobody


def flood(address: str, rate: float, seconds: float) -> tuple[int, int]:
    """Send `rate` bits/s of payload; returns datagrams sent, and those refused with EPERM."""
    payload = bytes(SIZE)
    sent = refused = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            if sent + refused > passed * rate / 8 / SIZE:
                time.sleep(0.001)
                continue
            try:
                out.sendto(payload, (address, PORT))
                sent += 1
            except PermissionError as error:
                if error.errno != errno.EPERM:
                    raise
                refused += 1
    return sent, refused


if __name__ == "__main__":
    print(*flood(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
