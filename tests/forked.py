"""Processes that are launched without a launcher: forked, with the variables that it sets.

What they need is imported once, which a launcher does in every process.
"""

import os
import signal
import socket
import sys
import time
import accelerate  # before the fork: it takes seconds


def free_port():
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def as_launched(number, processes, port):
    "What a launcher tells a process"
    told = dict(RANK=number, LOCAL_RANK=number, WORLD_SIZE=processes, LOCAL_WORLD_SIZE=processes)
    told.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, ACCELERATE_USE_CPU='true')
    return {name: str(value) for name, value in told.items()}


def forked(number, processes, port, work):
    "Process id of a child that does `work` as one of several processes"
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if processes > 1:
            os.environ.update(as_launched(number, processes, port))
        code = work() or 0
    except BaseException as error:
        print(f'process {number}: {type(error).__name__}: {error}'[:300], file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def together(processes, work):
    "Do `work` in several processes, ended when one fails as a launcher does; their exit codes"
    port = free_port()
    running = {forked(number, processes, port, work): number for number in range(processes)}
    codes = [None] * processes
    deadline = time.time() + 1200
    while running:
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
        failed = any(code not in (None, 0) for code in codes)
        if failed and deadline > time.time() + 10:
            deadline = time.time() + 10
        if time.time() > deadline:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return codes
