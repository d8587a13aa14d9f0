"""A function that ends when it should not: {"do": …, "value": any, "gate": address} -> value.

VOLATILE_INIT is the share of starts (0 to 1) that end while they initialise. `do` is `answer`; `exit`, which ends the
process amid the invocation; or `kill`, which ends it by a signal. With a gate it first waits until somebody there
has answered.
"""

import os
import random
import signal
import socket

if random.random() < float(os.environ.get("VOLATILE_INIT", 0)):
    os._exit(9)


def handler(event, context):
    if gate := event.get("gate"):
        with socket.create_connection((gate["host"], gate["port"])) as there:
            there.sendall(b"%d\n" % event["value"])
            there.recv(1)
    if event["do"] == "exit":
        os._exit(3)
    if event["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return event["value"]
