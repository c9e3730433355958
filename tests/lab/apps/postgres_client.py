"""As much of a PostgreSQL client as the stand-in apps need: simple queries, with a SCRAM-SHA-256 login."""

import base64
import hashlib
import hmac
import os
import socket
import struct


class Postgres:
    """One connection, as PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE say."""

    def __init__(self):
        env = os.environ
        self.socket = socket.create_connection((env["PGHOST"], int(env.get("PGPORT", "5432"))), timeout=5)
        self.file = self.socket.makefile("rb")
        user = env["PGUSER"]
        words = ["user", user, "database", env.get("PGDATABASE", user), ""]
        body = struct.pack("!i", 196608) + b"\0".join(word.encode() for word in words) + b"\0"
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.login(env["PGPASSWORD"].encode())

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def receive(self):
        kind = self.file.read(1)
        if not kind:
            raise OSError("PostgreSQL closed the connection")
        body = self.file.read(struct.unpack("!i", self.file.read(4))[0] - 4)
        if kind == b"E":
            fields = dict((part[:1], part[1:].decode()) for part in body.split(b"\0") if part)
            raise OSError(fields[b"M"])
        return kind, body

    def login(self, password):
        self.receive()
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n=,r={nonce}"
        begin = ("n,," + first).encode()
        self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(begin)) + begin)
        told = self.receive()[1][4:].decode()
        said = dict(part.split("=", 1) for part in told.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(said["s"]), int(said["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c=biws,r={said['r']}"
        signature = hmac.digest(hashlib.sha256(key).digest(), f"{first},{told},{last}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.send(b"p", f"{last},p={proof}".encode())
        while self.receive()[0] != b"Z":
            pass

    def __call__(self, query):
        """Runs one statement and returns its rows."""
        self.send(b"Q", query.encode() + b"\0")
        rows = []
        while True:
            kind, body = self.receive()
            if kind == b"Z":
                return rows
            if kind == b"D":
                row, at = [], 2
                for _ in range(struct.unpack("!h", body[:2])[0]):
                    (size,) = struct.unpack("!i", body[at : at + 4])
                    row.append(None if size < 0 else body[at + 4 : at + 4 + size].decode())
                    at += 4 + max(size, 0)
                rows.append(row)
