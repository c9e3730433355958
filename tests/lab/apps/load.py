#!/usr/bin/env python3
"""A steady load of requests: load.py URL SECONDS STOP. Each has a connection of its own, about 200 in a second.

It ends after SECONDS, or when there is a file STOP, and says each answer with how often it came, in the order in which
they came first, and then what went wrong.
"""

import collections
import os
import sys
import threading
import time
import urllib.request

url, seconds, stop = sys.argv[1], float(sys.argv[2]), sys.argv[3]
answers, failures, lock = collections.Counter(), [], threading.Lock()
end = time.monotonic() + seconds


def ask():
    while time.monotonic() < end and not os.path.exists(stop):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                said = answer.read().decode()
            with lock:
                answers[said] += 1
        except OSError as error:
            failures.append(f"{error}")
        time.sleep(0.015)


threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for said, count in answers.items():
    print("answer", said, count)
for failure in failures:
    print("failure", failure)
