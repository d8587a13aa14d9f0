"""One table of cases for a language runs on our bootstrap and, where it is installed, on the official client: so the
expectations are proved against the real thing, and hold where it is absent."""

import json
import os
import re

from transport import Ended


class Case:
    """A function, what is sent to it, and what must come back.

    `files`: name → text, under the task folder; a plain text is the language's main file.
    `event`: bytes as they are sent; any other value becomes JSON. A list `events` sends several.
    `outcomes`: (kind, text) for each event, or for the init phase if that fails; kind "exit" has the status. Text is
    compared exactly, or, for a dict, as JSON; `<task>` stands for the task folder.
    `logs`: all log events, `<time>` stands for a time stamp. None: not compared.
    `like_lambda`: False where the official client behaves otherwise, on purpose; a text says why.
    """

    def __init__(self, name, source, *outcomes, **options):
        self.name = name
        self.files = source if isinstance(source, dict) else {None: source}
        self.outcomes = outcomes
        self.handler = options.pop("handler", "app.handler")
        self.events = options.pop("events", [options.pop("event", None)])
        self.meta = options.pop("meta", {})
        self.environment = options.pop("environment", {})
        self.logs = options.pop("logs", None)
        self.like_lambda = options.pop("like_lambda", True)
        self.since = options.pop("since", None)
        self.only = options.pop("only", None)
        self.status = options.pop("status", None)
        assert not options, options


def check(case, start, folder, main_file, is_ours):
    """Runs a case: `start(folder, handler, environment)` gives an instance."""
    for name, text in case.files.items():
        path = os.path.join(folder, name or main_file)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
    with start(folder, case.handler, case.environment) as instance:
        found = list(_outcomes(instance, case))
        logs = [_plain(line, folder) for line in instance.logs()]
    for (kind, value), (expected_kind, expected) in zip(found, case.outcomes):
        assert kind == expected_kind, (kind, value, logs)
        if isinstance(expected, dict):
            assert without_frames(json.loads(_plain(value, folder)), is_ours) == expected, logs
        elif isinstance(expected, re.Pattern):
            assert expected.search(_plain(value, folder)), value
        else:
            assert _plain(value, folder) == expected if isinstance(expected, str) else value == expected, logs
    assert len(found) == len(case.outcomes), (found, logs)
    if case.logs is not None:
        logs = [_without_frames_text(line) for line in logs if "LAMBDA_WARNING" not in line]
        assert logs == case.logs


def _outcomes(instance, case):
    try:
        kind, _, body = instance.receive_until("RX")
        if kind == "X":
            yield kind, body.decode()
            return
        for event in case.events:
            instance.send(event, **case.meta)
            frames = len(instance.frames)
            kind, _, body = instance.receive_until("AEZF")
            if kind in "ZF":
                start = [frame for frame in instance.frames[frames:] if frame[0] == "S"]
                body_so_far = b"".join(frame[2] for frame in instance.frames[frames:] if frame[0] == "C")
                yield "S", start[0][1] + "\n" + body_so_far.decode()
            if kind != "Z":
                yield kind, body.decode("utf-8", "surrogateescape")
    except Ended:
        yield "exit", instance.wait()[0]
        return
    if case.status is not None:
        yield "exit", instance.wait()[0]


def _plain(text, folder):
    text = text.replace(os.path.realpath(folder), "<task>").replace(folder, "<task>")
    text = re.sub(r"at (?:Object\.)?(?:<anonymous>|Runtime\.handler) \(?(<task>[^)\"]*)\)?", r"at \1", text)
    text = re.sub(r"(<task>[^:)\"]*:\d+):\d+", r"\1", text)  # columns are the engine's business
    text = re.sub(r" \[as \w+\]", "", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "<time>", text)


_RUNTIME = re.compile(r"awslambdaric|aws-lambda-ric|bootstraps/|/_brooklet/|node:|<frozen importlib|importlib/")


def without_frames(error, is_ours):
    """The error without stack frames of the runtime and its libraries."""
    for key in ("stackTrace", "trace"):
        if key in error:
            error[key] = [entry for entry in error[key] if not _RUNTIME.search(entry)]
    return error


def _without_frames_text(line):
    """The log event without stack frames of the runtime, in the text of a traceback or in JSON."""
    if "\t{" in line:
        head, _, data = line.partition("\t{")
        data = json.loads("{" + data)
        return head + "\t" + json.dumps(_without_frames_deep(data), separators=(",", ":"))
    if line.startswith("{"):
        return json.dumps(_without_frames_deep(json.loads(line)), separators=(",", ":"))
    kept = []
    lines = line.split("\n")
    for at, text in enumerate(lines):
        if _RUNTIME.search(text):
            continue
        source = text.startswith("\u00a0\u00a0\u00a0\u00a0") and at and _RUNTIME.search(lines[at - 1])
        if not source:
            kept.append(text)
    return "\n".join(kept)


def _without_frames_deep(value):
    if isinstance(value, dict):
        return {key: _without_frames_deep(member) for key, member in value.items()}
    if isinstance(value, list):
        return [m for m in value if not (isinstance(m, str) and _RUNTIME.search(m))]
    return value
