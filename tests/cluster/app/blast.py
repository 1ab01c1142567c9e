"""blast.py HOST PORT SECONDS: send UDP datagrams as fast as one core can, from the first instruction on.

Prints how many bytes of payload it offered, then idles: an application whose start nobody may miss.
"""

import json
import signal
import socket
import sys
import time

host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect((host, port))
end, offered, refused = time.monotonic() + seconds, 0, 0
while time.monotonic() < end:
    try:
        offered += sender.send(bytes(1200))
    except OSError:  # nobody listens yet or any more: it was sent all the same
        refused += 1
print(json.dumps({"offered_bytes": offered, "refused": refused}), flush=True)
signal.sigwait([signal.SIGTERM])
