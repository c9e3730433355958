#!/usr/bin/env python3
"""The worker of the Fibonacci system: for every index published in Redis it writes the number back there."""

import signal
import sys
import time

from redis_client import Redis


def fibonacci(index):
    one, two = 1, 1
    for _ in range(index):
        one, two = two, one + two
    return one


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    try:
        write = Redis()
        for index in Redis().messages("insert"):
            write("HSET", "values", index, fibonacci(int(index)))
    except OSError as error:
        print(f"Redis: {error}", file=sys.stderr, flush=True)
        time.sleep(0.3)
