"""A neighbour that takes what it can get: {"bomb": kind, "seconds": n}."""

import os
import time


def handler(event, context):
    globals()[event["bomb"]](time.monotonic() + event["seconds"])


def cpu(end):
    """Four processes that calculate."""
    for _ in range(3):
        if os.fork() == 0:
            break
    while time.monotonic() < end:
        pass


def fork(end):
    """Processes that fork without end, each as fast as it may."""
    while time.monotonic() < end:
        try:
            os.fork()
        except OSError:
            pass


def memory(end):
    """All memory that there is, until the kernel ends it. Its caller calls it again."""
    blocks = []
    while time.monotonic() < end:
        blocks.append(bytearray(1 << 20))
        blocks[-1][::4096] = b"x" * 256


def disk(end):
    """Fills its disk, empties it and fills it again."""
    block = bytes(1 << 20)
    while time.monotonic() < end:
        try:
            with open("/tmp/bomb", "ab") as file:
                file.write(block)
        except OSError:
            os.unlink("/tmp/bomb")


def log(end):
    """Writes lines as fast as somebody reads them."""
    lines = b"one more line of a log that nobody will ever read\n" * 64
    while time.monotonic() < end:
        os.write(1, lines)
