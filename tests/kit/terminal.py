"""A terminal with somebody at it: terminal.py QUESTION ANSWER... -- COMMAND...

Runs the command with a terminal of its own, gives the next answer each time the question shows up, and prints what the
terminal shows. Ends as the command does; with 99 if that takes longer than a minute, with 98 if it asks too often.
"""

import os
import pty
import select
import sys
import time

at = sys.argv.index("--")
question, answers, command = sys.argv[1], sys.argv[2:at], sys.argv[at + 1 :]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
shown, asked, until = b"", 0, time.monotonic() + 60
while True:
    if not select.select([terminal], [], [], max(0, until - time.monotonic()))[0]:
        os.kill(child, 9)
        sys.exit(99)
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    shown += piece
    sys.stdout.buffer.write(piece)
    sys.stdout.flush()
    while shown.count(question.encode()) > asked:
        if asked == len(answers):
            os.kill(child, 9)
            sys.exit(98)
        # Not before the program has turned echo off.
        time.sleep(0.3)
        os.write(terminal, answers[asked].encode() + b"\n")
        asked += 1
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) % 256)
