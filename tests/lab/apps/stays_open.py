#!/usr/bin/env python3
"""A WebSocket that stays open: stays_open.py HOST PORT SECONDS. Sends a line each tenth of a second and says what comes back.

Ends with `closed` where the other side has ended it, else with `open`.
"""

import socket
import sys
import time

host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
link = socket.create_connection((host, port), timeout=10)
link.sendall(
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\r\n\r\n"
)
back = link.makefile("rb")
while back.readline().strip():
    pass
end, number = time.monotonic() + seconds, 0
while time.monotonic() < end:
    number += 1
    try:
        link.sendall(b"%d\n" % number)
        said = back.readline().decode().strip()
    except OSError:
        said = ""
    if not said:
        print("closed")
        sys.exit()
    print(said, flush=True)
    time.sleep(0.1)
print("open")
