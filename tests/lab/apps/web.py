"""What the stand-in apps have in common: an HTTP server that answers with text or JSON and stops when it is told."""

import json
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers with what `get` and `post` return: a status and a text, or anything that becomes JSON."""

    protocol_version = "HTTP/1.1"

    def get(self, path):
        return 404, f"no {path} here"

    def post(self, path, body):
        return 404, f"no {path} here"

    def answer(self, make):
        try:
            status, what = make()
        except OSError as error:
            status, what = 503, str(error)
        text = what if isinstance(what, str) else json.dumps(what)
        kind = "text/html" if text.startswith("<") else "text/plain" if text is what else "application/json"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.answer(lambda: self.get(self.path.partition("?")[0]))

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer(lambda: self.post(self.path, body.decode()))

    def log_message(self, *_):
        pass


def serve(handler, port):
    """Serves until SIGTERM or SIGINT."""
    server = ThreadingHTTPServer(("0.0.0.0", int(os.environ.get("PORT", port))), handler)
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listens on {server.server_address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
