"""The Node.js bootstrap as a process: signals, children, workers, packages, and bytes that come in pieces."""

import json
import signal
import struct
import textwrap

import pytest

import rigs
from transport import PATIENCE, Instance

NODES = rigs.nodes()


@pytest.fixture(params=list(NODES))
def start(request, tmp_path):
    """Starts the function of a source text; it is ended after the test."""
    instances = []

    def start(source, environment=None, file="app.js"):
        (tmp_path / file).write_text(textwrap.dedent(source))
        command = rigs.node_command(NODES[request.param])
        instance = Instance(command, str(tmp_path), "app.handler", environment)
        instances.append(instance)
        instance.receive_until("R")
        return instance

    yield start
    for instance in instances:
        instance.__exit__()


def test_the_end_of_the_transport_ends_the_process_at_once(start):
    instance = start(
        """
        process.on('exit', () => console.log('exit listeners do not run'))
        setInterval(() => {}, 1000)
        exports.handler = async () => 1
        """
    )
    assert instance.invoke() == ("A", 1)
    assert instance.finish() == (0, "", "")
    assert instance.logs() == []


def test_the_end_of_the_transport_ends_an_open_event(start):
    instance = start("exports.handler = async () => { console.log('open'); await new Promise(r => setTimeout(r, 100000)) }")
    instance.send(None)
    instance.receive_until("L")
    assert instance.finish() == (0, "", "")


def test_a_transport_cut_inside_an_event_ends_the_process(start):
    instance = start("exports.handler = async () => 1")
    instance.write(struct.pack("<BxxxII", ord("I"), 10, 10) + b"half")
    assert instance.finish() == (0, "", "")


def test_a_server_that_is_gone_ends_the_process(start):
    instance = start("exports.handler = async () => { for (;;) { console.log('x'); await new Promise(setImmediate) } }")
    instance.send(None)
    instance.leave()
    assert instance.process.wait(PATIENCE) == 0


def test_an_event_may_come_in_pieces(start):
    instance = start("exports.handler = async (event, context) => [event, context.awsRequestId]")
    meta, body = "idé\n99\narn\ntrace\n\n".encode(), json.dumps("ü" * 100, ensure_ascii=False).encode()
    frame = struct.pack("<BxxxII", ord("I"), len(meta), len(body)) + meta + body
    for at in range(len(frame)):
        instance.write(frame[at : at + 1])
    kind, _, answer = instance.receive_until("AE")
    assert (kind, json.loads(answer)) == ("A", ["ü" * 100, "idé"])


@pytest.mark.parametrize("size", [65536 - 200, 65536 - 100, 65536, 70000, 6 * 1024 * 1024])
def test_events_around_the_read_size_arrive_whole(start, size):
    instance = start("exports.handler = async (event) => [event.length, event.slice(-3)]")
    assert instance.invoke("x" * size + "end") == ("A", [size + 3, "end"])
    assert instance.invoke("small") == ("A", [5, "all"])


@pytest.mark.parametrize("size", [20000, 21840, 21850, 65536, 3000000])
def test_answers_of_any_size_arrive_whole_at_a_slow_reader(start, size):
    instance = start("exports.handler = async (n) => { console.log('before'); return 'ä'.repeat(n) }")
    instance.read_slowly()
    for _ in range(2):
        assert instance.invoke(size) == ("A", "ä" * size)


def test_a_large_stream_waits_for_its_reader(start):
    """No piece fits a pipe, so each has to wait."""
    instance = start(
        """
        exports.handler = awslambda.streamifyResponse(async (event, stream) => {
          let waits = 0
          for (let n = 0; n < 30; n++) {
            console.log('log', n)
            if (!stream.write(Buffer.alloc(500000, n))) {
              waits++
              await new Promise(r => stream.once('drain', r))
            }
          }
          stream.end()
          console.log(waits > 0)
        })
        """
    )
    instance.send(None)
    instance.receive_until("Z")
    sent = b"".join(body for kind, _, body in instance.frames if kind == "C")
    assert sent == b"".join(bytes([n]) * 500000 for n in range(30))
    logs = [line.split("\t")[3] for line in instance.logs()]
    assert logs == ["log %d" % n for n in range(30)] + ["true"]


def test_many_log_events_before_an_exit_are_all_there(start):
    instance = start("exports.handler = () => { for (let n = 0; n < 20000; n++) console.log(n, 'x'.repeat(50)); process.exit(0) }")
    instance.send(None)
    assert instance.wait()[0] == 0
    assert [int(line.split("\t")[3].split()[0]) for line in instance.logs()] == list(range(20000))


def test_many_log_events_between_events_do_not_stop_a_large_event(start):
    """A full pipe must not make the function and the server wait for each other."""
    instance = start(
        """
        exports.handler = async (event) => {
          setTimeout(() => { for (let n = 0; n < 200; n++) console.log('y'.repeat(10000)) }, 1)
          return event.length
        }
        """
    )
    for size in (0, 1000000, 2000000):
        assert instance.invoke("x" * size) == ("A", size)


def test_sigterm_ends_the_process_unless_handled(start):
    instance = start("exports.handler = async () => 1")
    instance.process.send_signal(signal.SIGTERM)
    assert instance.wait()[0] == -signal.SIGTERM


def test_a_signal_handler_runs_while_the_function_waits(start):
    instance = start("process.on('SIGTERM', () => { console.log('bye'); process.exit(4) })\nexports.handler = async () => 1")
    assert instance.invoke() == ("A", 1)
    instance.process.send_signal(signal.SIGTERM)
    assert instance.wait()[0] == 4
    assert [line.split("\t")[3] for line in instance.logs()] == ["bye"]


def test_timers_go_on_between_events(start):
    instance = start(
        "exports.handler = (event, context, callback) => { context.callbackWaitsForEmptyEventLoop = false\n"
        "setTimeout(() => console.log('between'), 20); callback(null, 1) }"
    )
    assert instance.invoke() == ("A", 1)
    assert instance.receive_until("L")[2].endswith(b"between")


def test_an_exception_between_events_ends_the_process(start):
    instance = start("exports.handler = async () => { setTimeout(() => { throw new Error('between') }, 5) }")
    assert instance.invoke() == ("A", None)
    assert instance.wait()[0] == 129
    assert "Uncaught Exception" in instance.logs()[0]


def test_programs_print_to_the_pipes_and_do_not_get_the_transport(start):
    instance = start(
        """
        const { execFileSync, spawnSync } = require('child_process')
        const fs = require('fs')
        exports.handler = async () => {
          fs.writeSync(1, 'raw\\n')
          spawnSync('echo', ['hello'], { stdio: ['ignore', process.stdout, process.stderr] })
          spawnSync('sh', ['-c', 'echo oops >&2'], { stdio: 'inherit' })
          return execFileSync('sh', ['-c', 'ls /proc/$$/fd']).toString().split('\\n')
        }
        """
    )
    kind, descriptors = instance.invoke()
    assert kind == "A" and "3" not in descriptors
    assert instance.logs() == []
    assert instance.finish() == (0, "raw\nhello\n", "oops\n")


ENV = '''
import { env } from 'node:process'
import { execFileSync } from 'node:child_process'
import util from 'node:util'
export const handler = async () => [
  env._X_AMZN_TRACE_ID,
  process.env._X_AMZN_TRACE_ID,
  JSON.parse(JSON.stringify(process.env))._X_AMZN_TRACE_ID,
  '_X_AMZN_TRACE_ID' in process.env && Object.keys(process.env).includes('_X_AMZN_TRACE_ID'),
  util.inspect(process.env).includes(process.env._X_AMZN_TRACE_ID),
  execFileSync('sh', ['-c', 'echo "$_X_AMZN_TRACE_ID"']).toString().trim(),
  execFileSync('sh', ['-c', 'echo "$_X_AMZN_TRACE_ID"'], { env: { ...process.env } }).toString().trim()
]
'''


def test_each_event_s_trace_id_is_in_the_environment_and_in_that_of_programs(start):
    instance = start(ENV, file="app.mjs")
    for trace in ("Root=1", "Root=2"):
        assert instance.invoke(trace=trace) == ("A", [trace, trace, trace, True, True, trace, trace])
    assert instance.invoke(trace="")[1][:4] == [None, None, None, False]


def test_the_environment_can_be_changed_as_ever(start):
    instance = start(
        """
        const { execFileSync } = require('child_process')
        const say = (name) => execFileSync('sh', ['-c', `echo "$${name}"`]).toString().trim()
        exports.handler = async () => {
          const { env } = process
          env.NUMBER = 5
          Object.assign(env, { ASSIGNED: 'a', GONE: 'g' })
          Object.defineProperty(env, 'DEFINED', { value: 'd', configurable: true, writable: true, enumerable: true })
          delete env.GONE
          const derived = Object.create(env)
          derived.OWN = 'o'
          env.TZ = 'Asia/Tokyo'
          const hour = new Date(0).getHours()
          let refused
          try { env.SYMBOL = Symbol('s') } catch (error) { refused = error.name }
          env._X_AMZN_TRACE_ID = 'mine'
          return [env.NUMBER, env.ASSIGNED, 'GONE' in env, env.DEFINED, 'OWN' in env, hour, refused, env.hasOwnProperty('NUMBER'),
            env.MISSING === undefined, ...['NUMBER', 'ASSIGNED', 'GONE', 'DEFINED', '_X_AMZN_TRACE_ID'].map(say)]
        }
        """
    )
    ours = ["5", "a", False, "d", False, 9, "TypeError", True, True, "5", "a", "", "d", "mine"]
    assert instance.invoke() == ("A", ours)


def test_workers_log(start):
    instance = start(
        """
        const { Worker } = require('worker_threads')
        exports.handler = () => new Promise((resolve) => {
          new Worker("console.log('from the worker')", { eval: true }).on('exit', resolve)
        })
        """
    )
    assert instance.invoke() == ("A", 0)
    assert instance.logs() == ["from the worker"]


def test_source_maps_are_used_when_asked_for(start, tmp_path):
    (tmp_path / "app.js.map").write_text(json.dumps({"version": 3, "file": "app.js", "sources": ["app.ts"], "names": [], "mappings": "AAEA"}))
    source = "exports.handler = async () => { throw new Error('mapped') }\n//# sourceMappingURL=app.js.map\n"
    instance = start(source, {"NODE_OPTIONS": "--enable-source-maps"})
    _, error = instance.invoke()
    assert any("app.ts:3" in line for line in error["trace"]), error
