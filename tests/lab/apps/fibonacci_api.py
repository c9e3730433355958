#!/usr/bin/env python3
"""The API of the Fibonacci system: POST /values {"index": N}, GET /values/all (PostgreSQL), /values/current (Redis)."""

import json

from postgres_client import Postgres
from redis_client import Redis
from web import Handler, serve


class Api(Handler):
    def get(self, path):
        if path == "/values/all":
            postgres = Postgres()
            postgres("CREATE TABLE IF NOT EXISTS asked (number INT)")
            return 200, [int(number) for (number,) in postgres("SELECT number FROM asked ORDER BY number")]
        if path == "/values/current":
            flat = Redis()("HGETALL", "values")
            return 200, dict(zip(flat[::2], flat[1::2]))
        return (200, "ok") if path in ("/", "/health") else (404, f"no {path} here")

    def post(self, path, body):
        index = int(json.loads(body)["index"])
        if index > 40:
            return 422, "index too high"
        redis, postgres = Redis(), Postgres()
        redis("HSET", "values", index, "nothing yet")
        redis("PUBLISH", "insert", index)
        postgres("CREATE TABLE IF NOT EXISTS asked (number INT)")
        postgres(f"INSERT INTO asked (number) VALUES ({index})")
        return 200, {"working": True}


serve(Api, 5000)
