#!/usr/bin/env python3
"""A service that says its version: versioned.py VERSION PORT [sick|dead|brief|world]

/         the version
/health   200, or 500 where it is sick; where it is dead or brief, it is gone at once or soon after its start
/stream   the version once in a tenth of a second, for as many seconds as the query says
Upgrade   whatever is sent comes back, line by line, with the version in front
"""

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION, PORT, SICK = sys.argv[1], int(sys.argv[2]), "sick" in sys.argv[3:]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.headers.get("Upgrade"):
            return self.echo()
        if self.path.startswith("/stream"):
            return self.stream(float(self.path.partition("?")[2] or 1))
        self.send_response(500 if SICK and self.path == "/health" else 200)
        self.send_header("Content-Length", str(len(VERSION)))
        self.end_headers()
        self.wfile.write(VERSION.encode())

    def echo(self):
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.wfile.flush()
        for line in self.rfile:
            self.wfile.write(VERSION.encode() + b" " + line)
            self.wfile.flush()
        self.close_connection = True

    def stream(self, seconds):
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.wfile.write(VERSION.encode() + b"\n")
            self.wfile.flush()
            time.sleep(0.1)
        self.wfile.write(b"end\n")
        self.close_connection = True


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if "dead" in sys.argv:
    sys.exit(1)
if "brief" in sys.argv:
    threading.Timer(0.2, lambda: os._exit(1)).start()
Server(("0.0.0.0" if "world" in sys.argv else "127.0.0.1", PORT), Handler).serve_forever()
