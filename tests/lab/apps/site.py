#!/usr/bin/env python3
"""Stands in for the Astro website of the example systems: an HTML page on /, and the same as /style.css.

Environment: PORT (4321), BIND (0.0.0.0), TITLE (Hello from the site).
"""

import html
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TITLE = html.escape(os.environ.get("TITLE", "Hello from the site"))
PAGE = f"<!doctype html>\n<html><head><title>{TITLE}</title></head><body><h1>{TITLE}</h1></body></html>\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = urlsplit(self.path).path in ("/", "/index.html", "/health", "/style.css")
        body = (PAGE if found else "<!doctype html><h1>Not found</h1>\n").encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET


def main():
    address = os.environ.get("BIND", "0.0.0.0"), int(os.environ.get("PORT", "4321"))
    server = ThreadingHTTPServer(address, Handler)
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"site listens on {address[0]}:{address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
