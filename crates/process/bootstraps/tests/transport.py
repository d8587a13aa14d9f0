"""The server's ends of the framed transport (../README.md), for tests: starts a bootstrap and speaks to it."""

import fcntl
import json
import os
import select
import struct
import subprocess
import time

PATIENCE = 60  # seconds; a limit for broken code, never a wait

ARN = "arn:aws:lambda:us-east-1:000000000000:function:test"
ENVIRONMENT = {
    "AWS_LAMBDA_FUNCTION_NAME": "test",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/test",
    "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123",
    "AWS_REGION": "us-east-1",
    "LANG": "en_US.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "TZ": ":UTC",
}


class Ended(Exception):
    """The function's process closed the transport where a frame was awaited."""


# What an interpreter looks at while it starts: a process that waits for its function has these from the start.
LOOKED_AT = ("PYTHON", "NODE_", "LANG", "LC_", "TZ")


class Instance:
    """A function's process. `frames` holds every frame received, as (kind, meta, body).

    With `waits` it is started before it is told its function, and told then.
    """

    def __init__(self, command, folder, handler, environment=None, waits=False):
        (their_events, self._events), (self._answers, their_answers) = os.pipe(), os.pipe()
        self.frames = []
        self.loading = False  # whether it has said that its runtime has booted
        self._bytes = b""
        self._out = {}
        env = dict(ENVIRONMENT, LAMBDA_TASK_ROOT=str(folder), _HANDLER=handler, **environment or {})
        # Descriptors 3 and 4 are open here, if only as two of these: so no pipe of `Popen` can be there.

        def place():
            kept = os.dup(their_answers)
            os.dup2(their_events, 3)
            os.dup2(kept, 4)
            os.close(kept)
            os.set_inheritable(3, True)
            os.set_inheritable(4, True)

        begin, where = env, folder
        if waits:
            begin = {key: value for key, value in env.items() if key.startswith(LOOKED_AT)} | {"BROOKLET_WAIT": "1"}
            where = "/"
        self.process = subprocess.Popen(
            command,
            cwd=where,
            env=begin,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[3, 4],
            preexec_fn=place,
        )
        os.close(their_events)
        os.close(their_answers)
        if waits:
            body = "".join("%s=%s\0" % pair for pair in env.items()).encode()
            self.write(struct.pack("<BxxxII", ord("B"), 0, len(body)) + body)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def write(self, data):
        """Writes bytes where the function reads events."""
        data = memoryview(data)
        while data:
            data = data[os.write(self._events, data) :]

    def read_slowly(self):
        """From here on what the function writes has to wait after 4 KiB."""
        fcntl.fcntl(self._answers, fcntl.F_SETPIPE_SZ, 4096)

    def leave(self):
        """Closes the transport, as a server that is gone."""
        self._close_events()
        if self._answers is not None:
            os.close(self._answers)
            self._answers = None

    def _close_events(self):
        if self._events is not None:
            os.close(self._events)
            self._events = None

    def send(self, event, **meta):
        """Sends one event; `event` is bytes, or a value that becomes JSON."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        fields = {"id": "id-1", "deadline": int(time.time() * 1000) + 30000, "arn": ARN, "trace": "Root=1-5bef4de7"}
        fields.update({"client": "", "identity": ""})
        fields.update(meta)
        head = "\n".join(str(value) for value in fields.values()).encode()
        self.write(struct.pack("<BxxxII", ord("I"), len(head), len(body)) + head + body)

    def receive(self):
        """The next frame as (kind, meta, body)."""
        head = self._exactly(12)
        kind, meta, body = struct.unpack("<BxxxII", head)
        assert head[1] in (0, 1) and head[2:4] == b"\0\0", head
        frame = (chr(kind), self._exactly(meta).decode(), self._exactly(body))
        if frame[0] == "G":
            assert frame == ("G", "", b"") and not self.loading, "said once, with nothing more"
            assert not [kind for kind, _, _ in self.frames if kind != "L"], "and before anything but log lines"
            self.loading = True
            return self.receive()
        self.frames.append(frame)
        return frame

    def receive_until(self, kinds):
        while True:
            frame = self.receive()
            if frame[0] in kinds:
                return frame

    def invoke(self, event=None, **meta):
        """Sends one event and returns its outcome: ("A" or "E", value) with the JSON decoded."""
        self.send(event, **meta)
        kind, _, body = self.receive_until("AE")
        return kind, json.loads(body)

    def logs(self):
        """The log events so far, and forgets them."""
        found = [body.decode() for kind, _, body in self.frames if kind == "L"]
        self.frames = [frame for frame in self.frames if frame[0] != "L"]
        return found

    def finish(self):
        """Closes the transport for writing, waits for the end of the process: (exit status, stdout, stderr)."""
        self._close_events()
        return self.wait()

    def wait(self):
        """Waits for the end of the process, reading whatever it still says: (exit status, stdout, stderr)."""
        try:
            while True:
                self.receive()
        except Ended:
            pass
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.decode(), err.decode()

    def _exactly(self, size):
        while len(self._bytes) < size:
            ready, _, _ = select.select([self._answers], [], [], PATIENCE)
            assert ready, "no answer within %d s" % PATIENCE
            more = os.read(self._answers, 1 << 20)
            if not more:
                raise Ended
            self._bytes += more
        taken, self._bytes = self._bytes[:size], self._bytes[size:]
        return taken
