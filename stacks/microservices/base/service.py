"""An HTTP service that answers GET, says that it is well, and stops in order."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(pages):
    """Serves functions by path until SIGTERM or SIGINT; /health is there always."""
    pages = {"/health": lambda: "ok\n"} | pages

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path)
            body = (page() if page else "not found\n").encode()
            self.send_response(200 if page else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler)
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
