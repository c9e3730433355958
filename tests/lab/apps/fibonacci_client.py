#!/usr/bin/env python3
"""The page of the Fibonacci system. On /ws it takes a WebSocket and sends every frame back."""

import base64
import hashlib

from web import Handler, serve

PAGE = "<!doctype html><title>Fibonacci</title><h1>Fib calculator</h1>\n"


class Client(Handler):
    def get(self, path):
        return 200, PAGE

    def do_GET(self):
        if self.path == "/ws" and self.headers.get("Upgrade", "").lower() == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.close_connection = True
            return self.echo()
        return super().do_GET()

    def echo(self):
        """Short frames only: two bytes of header, four of mask, then the text."""
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 0x0F == 8:
                return
            size, mask = head[1] & 0x7F, self.rfile.read(4)
            text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes([head[0], len(text)]) + text)
            self.wfile.flush()


serve(Client, 3000)
