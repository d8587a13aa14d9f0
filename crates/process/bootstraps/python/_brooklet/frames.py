"""The framed transport on file descriptors 3 and 4 (../../README.md), and the text streams whose lines travel over it.

Only built-in modules are imported: each other import would be paid by every cold start.
"""

import io
import os
from _thread import RLock

EVENTS = 3
ANSWERS = 4
MAX_RECORD = 256 * 1024  # bytes of one log event, CloudWatch's limit; longer ones are split
_WINDOW = 64 * 1024  # bytes read at once; most events fit, head included
_HEAD = 12
_SMALL = 4096 - _HEAD  # bytes; a pipe takes a frame up to this whole or not at all (PIPE_BUF)

_window = bytearray(_WINDOW)
_view = memoryview(_window)
_lock = RLock()
_large = False  # whether a frame that is not small is being written
_waiting = []  # frames of signal handlers that run in the middle of that
_connected = True


def open_transport():
    """Makes the descriptors this process's own: programs it starts do not inherit them, forked children give them
    up."""
    for fd in (EVENTS, ANSWERS):
        os.set_inheritable(fd, False)
        os.set_blocking(fd, True)
    os.register_at_fork(after_in_child=_disconnect)


def disconnect():
    """Until `connect`, nothing is sent to the server, and lines are written to descriptors 1 and 2."""
    global _connected
    _connected = False


def connect():
    global _connected
    _connected = True


def wait_for_variables():
    """Waits until the server tells which function this process is to run: pairs of name and value."""
    frame = receive()
    if frame is None:
        os._exit(0)
    texts = os.fsdecode(bytes(frame[1])).split("\0")
    return [text.split("=", 1) for text in texts if text]


def receive():
    """Waits for the next event: its metadata fields (list of str) and its body (bytes-like, valid until the next
    call). None when the server has closed the stream, or when this process is a forked child."""
    if not _connected:
        return None
    filled = _read_into(_window)
    while 0 < filled < _HEAD:
        more = _read_into(_view[filled:])
        filled = filled + more if more else 0
    if not filled:
        return None
    body_at = _HEAD + int.from_bytes(_window[4:8], "little")
    end = body_at + int.from_bytes(_window[8:12], "little")
    frame = _view
    if end > filled:
        if end > _WINDOW:
            frame = memoryview(bytearray(end))
            frame[:filled] = _view[:filled]
        while filled < end:
            more = _read_into(frame[filled:end])
            if not more:
                return None
            filled += more
    return str(frame[_HEAD:body_at], "utf-8").split("\n"), frame[body_at:end]


def send(kind, body):
    """Sends one frame without metadata: `kind` is one ASCII byte, `body` is bytes. A forked child that has come so
    far, because it returned from the function, ends here."""
    if not _connected:
        os._exit(0)
    head = kind + b"\0\0\0\0\0\0\0" + len(body).to_bytes(4, "little")
    try:
        with _lock:
            if _large:
                # This signal handler's thread holds the (re-entrant) lock: it stopped halfway through its own frame.
                _waiting.append(head + body)
            elif len(body) <= _SMALL:
                _write(head + body)
            else:
                _write_large(head, body)
    except BrokenPipeError:
        os._exit(0)  # the server is gone


def log(text, fd=1):
    """Sends one log event: `text` may hold several lines. A forked child has only the pipe `fd`."""
    _log(text.encode("utf-8", "backslashreplace"), fd)


class Lines(io.BufferedIOBase):
    """The bytes under `sys.stdout` and `sys.stderr`: each line becomes one log event."""

    def __init__(self, fd):
        self._fd = fd
        self.rest = b""

    def writable(self):
        return True

    def fileno(self):
        return self._fd

    def isatty(self):
        return False

    def write(self, data):
        data = bytes(data)
        size = len(data)
        with _lock:
            if self.rest:
                data = self.rest + data
                self.rest = b""
            if data.endswith(b"\n") and data.find(b"\n") == len(data) - 1:
                _log(data[:-1], self._fd)
                return size
            *lines, rest = data.split(b"\n")
            for line in lines:
                _log(line, self._fd)
            while len(rest) > MAX_RECORD:
                _log(rest[:MAX_RECORD], self._fd)
                rest = rest[MAX_RECORD:]
            self.rest = rest
        return size

    def end_line(self):
        """Sends an unfinished line: it belongs to the event that ends here."""
        if self.rest:
            with _lock:
                rest, self.rest = self.rest, b""
                if rest:
                    _log(rest, self._fd)


def text_stream(fd, name):
    """A line-buffered text stream like the interpreter's own, whose lines become log events."""
    lines = Lines(fd)
    lines.name = name
    stream = io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True)
    stream.mode = "w"
    return stream


def _log(data, fd):
    if not _connected:
        os.write(fd, data + b"\n")
        return
    while len(data) > MAX_RECORD:
        send(b"L", data[:MAX_RECORD])
        data = data[MAX_RECORD:]
    send(b"L", data)


def _write(data):
    sent = os.write(ANSWERS, data)
    while sent < len(data):
        sent += os.write(ANSWERS, memoryview(data)[sent:])


def _write_large(head, body):
    global _large
    _large = True
    try:
        sent = os.writev(ANSWERS, (head, body))
        if sent < len(head):
            sent += os.write(ANSWERS, head[sent:])
        _write(memoryview(body)[sent - len(head) :])
    finally:
        _large = False
    while _waiting:
        _write(_waiting.pop(0))


def _read_into(buffer):
    return os.readv(EVENTS, (buffer,))


def _disconnect():
    """In a forked child: the transport is its parent's, so that two processes never answer one event."""
    global _lock, _large, _connected
    _lock = RLock()
    _large = False
    _waiting.clear()
    if _connected:
        _connected = False
        os.close(EVENTS)
        os.close(ANSWERS)
