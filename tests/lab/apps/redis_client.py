"""As much of a Redis client as the stand-in apps need: the protocol is lines and counted bytes."""

import os
import socket


class Redis:
    """One connection, by default to REDIS_HOST:REDIS_PORT."""

    def __init__(self, host=None, port=None):
        host = host or os.environ.get("REDIS_HOST", "redis")
        self.socket = socket.create_connection((host, int(port or os.environ.get("REDIS_PORT", "6379"))), timeout=5)
        self.file = self.socket.makefile("rb")

    def __call__(self, *words):
        """Runs one command and returns its answer."""
        words = [str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))
        return self.answer()

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        raise OSError(rest.decode() or "the connection is closed")

    def messages(self, channel):
        """Everything that is published in a channel, for ever."""
        self("SUBSCRIBE", channel)
        self.socket.settimeout(None)
        while True:
            yield self.answer()[2]
