#!/usr/bin/env python3
"""The greeting API of the example systems: GET /greet?name=X, /count, /health.

Environment: PORT (8080), BIND (0.0.0.0), DB (greetings.db), GREETING (Hello), REDIS_URL (host:port, where the count is
kept; without it there is no cache);
to make it misbehave: HEALTH=fail answers /health with 503, START_DELAY=N listens only after N seconds.
"""

import os
import signal
import sqlite3
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

DB = os.environ.get("DB", "greetings.db")


def query(sql, *args):
    """Runs one statement in a transaction of its own and returns its rows."""
    db = sqlite3.connect(DB, timeout=5)
    try:
        with db:
            return db.execute(sql, args).fetchall()
    finally:
        db.close()


def cache(*words):
    """One command to the cache; nothing without one."""
    if "REDIS_URL" not in os.environ:
        return None
    from redis_client import Redis

    host, _, port = os.environ["REDIS_URL"].rpartition(":")
    return Redis(host, port)(*words)


def count():
    found = cache("GET", "count")
    if found is None:
        found = str(query("SELECT count(*) FROM greetings")[0][0])
        cache("SET", "count", found, "EX", "60")
    return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text):
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        try:
            if url.path == "/greet":
                name = parse_qs(url.query).get("name", ["World"])[0]
                text = f"{os.environ.get('GREETING', 'Hello')}, {name}!"
                query("INSERT INTO greetings (name, at) VALUES (?, ?)", name, time.time())
                cache("DEL", "count")
                self.answer(200, text)
            elif url.path == "/count":
                self.answer(200, count())
            elif url.path == "/health":
                failing = os.environ.get("HEALTH") == "fail"
                self.answer(503 if failing else 200, "failing" if failing else "ok")
            else:
                self.answer(404, "not found")
        except sqlite3.Error as error:
            self.answer(500, f"database: {error}")
        except OSError as error:
            self.answer(500, f"cache: {error}")

    do_HEAD = do_GET


def main():
    time.sleep(float(os.environ.get("START_DELAY", "0")))
    query("CREATE TABLE IF NOT EXISTS greetings (name TEXT NOT NULL, at REAL NOT NULL)")
    address = os.environ.get("BIND", "0.0.0.0"), int(os.environ.get("PORT", "8080"))
    server = ThreadingHTTPServer(address, Handler)
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"greet-api listens on {address[0]}:{address[1]}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("greet-api stopped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
