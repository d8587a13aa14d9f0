"""The Node.js bootstrap on every Node.js found here, and the official client on the same cases."""

import json
import re

import pytest

import rigs
from cases import Case, check
from official import Official
from transport import Instance

PRELUDE = "application/vnd.awslambda.http-integration-response\n"
BYTES = "application/octet-stream\n"
SDK = "(this part of the AWS SDK is not installed for this runtime: run `brooklet runtimes install node --with @aws-sdk/client-s3`)"
OLD_SDK = "(Lambda's Node.js carries version 2 of the AWS SDK no more: add it to the function's package)"


def error(kind, message, *trace):
    return {"errorType": kind, "errorMessage": message, "trace": list(trace)}


def thrown(kind, message, *frames):
    return error(kind, message, "%s: %s" % (kind, message), *frames)


def failing(name, source, kind, message, *frames, **options):
    return Case(name, source, ("X", thrown(kind, message, *frames)), status=129, **options)


def answer(code):
    return "exports.handler = async (event, context) => { %s }\n" % code


def callback(code):
    return "exports.handler = (event, context, callback) => { %s }\n" % code


def streaming(code):
    return "exports.handler = awslambda.streamifyResponse(async (event, stream, context) => { %s })\n" % code


def log(code, *lines, **options):
    return Case(options.pop("name", code), answer(code), ("A", "null"), logs=list(lines), **options)


INVOKE_ERROR = '<time>\tid-1\tERROR\tInvoke Error \t{"errorType":"%s","errorMessage":"%s","stack":["%s: %s",%s]}'
AT = "    at exports.handler (<task>/app.js:1)"
MODULE = {"package.json": '{"type": "module"}'}
JSON_LOG = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
CONTEXT = '{"custom": {"k": "v"}, "client": {"app_title": "t"}}'

CASES = [
    # Answers
    Case("an event comes back as it was", answer("return event"), ("A", '{"a":[1,2.5,null,true,"ü😀"]}'), event='{"a": [1, 2.5, null, true, "ü😀"]}'.encode()),
    Case("several events are answered one after the other", answer("return event"), *[("A", str(n)) for n in range(5)], events=list(range(5))),
    Case("nothing is null", answer(""), ("A", "null")),
    Case("a text is a JSON text", answer("return 'a\"b\\n'"), ("A", '"a\\"b\\n"')),
    Case("what JSON cannot say is left out", answer("return {a: undefined, b: () => 1, c: NaN, d: new Date(0), e: new Map([[1, 2]])}"), ("A", '{"c":null,"d":"<time>","e":{}}')),
    Case("a large event and answer", answer("return event.repeat(3)"), ("A", '"' + "x" * 3000000 + '"'), event="x" * 1000000),
    Case("a promise that is none of ours", callback("return {then (resolve) { setTimeout(resolve, 5, 'thenable') }}"), ("A", '"thenable"'), like_lambda="it wants a promise from `then`"),
    Case("an answer after a while", answer("await new Promise(r => setTimeout(r, 10)); return 'slept'"), ("A", '"slept"')),
    # Callbacks and the event loop
    Case("a callback", callback("callback(null, {ok: event})"), ("A", '{"ok":1}'), ("A", '{"ok":2}'), events=[1, 2]),
    Case("a callback without arguments", callback("callback()"), ("A", "null")),
    Case("a callback waits for the event loop", callback("setTimeout(() => console.log('later'), 20); callback(null, 1)"), ("A", "1"), logs=["<time>\tid-1\tINFO\tlater"]),
    Case("a callback need not wait", callback("context.callbackWaitsForEmptyEventLoop = false; setTimeout(() => console.log('later'), 10000); callback(null, 1)"), ("A", "1"), logs=[]),
    Case("a callback from a timer", callback("setTimeout(callback, 5, null, 'timer')"), ("A", '"timer"')),
    Case("the first callback counts", callback("callback(null, 1); callback(null, 2); callback('x')"), ("A", "1"), logs=[]),
    Case("a callback with an error does not wait", callback("setTimeout(() => {}, 10000); callback(new Error('cb'))"), ("E", thrown("Error", "cb", AT))),
    Case("a callback with a text as error", callback("callback('plain')"), ("E", error("string", "plain")), logs=['<time>\tid-1\tERROR\tInvoke Error \t{"errorType":"Error","errorMessage":"plain","stack":["Error: plain","%s"]}' % AT]),
    Case("a callback with an object as error", callback("callback({code: 7})"), ("E", error("object", "[object Object]"))),
    Case("a callback with zero as error", callback("callback(0)"), ("E", error("number", "0"))),
    Case("a callback with something like an error", callback("callback({name: 'N', message: 'm', stack: 's'})"), ("E", error("N", "m", "s"))),
    Case("a callback with an error that has no text", callback("callback(Object.create(null))"), ("E", {"errorType": "handled", "errorMessage": "callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack"}), logs=None, like_lambda="it fails in its own logging"),
    Case("succeed does not wait", callback("setTimeout(() => {}, 10000); context.succeed('s')"), ("A", '"s"')),
    Case("done with a result", callback("context.done(null, 'd')"), ("A", '"d"')),
    Case("done with an error", callback("context.done('e')"), ("E", error("string", "e"))),
    Case("fail with an error", callback("context.fail(new TypeError('f'))"), ("E", thrown("TypeError", "f", AT))),
    Case("fail with nothing", callback("context.fail()"), ("E", error("string", "handled"))),
    Case("the methods work on their own", callback("const {succeed, getRemainingTimeInMillis} = context; setImmediate(succeed, getRemainingTimeInMillis() > 0)"), ("A", "true")),
    Case("no answer at all is null", callback(""), ("A", "null"), ("A", "null"), events=[1, 2]),
    Case("a value that is no promise is no answer", callback("return 5"), ("A", "null")),
    Case("no answer waits for the event loop", callback("setTimeout(() => console.log('x'), 10)"), ("A", "null"), logs=["<time>\tid-1\tINFO\tx"]),
    Case("a promise that never settles is null", answer("return new Promise(() => {})"), ("A", "null"), ("A", "null"), events=[1, 2]),
    Case("a late callback after null is a complaint", callback("if (global.late) { global.late(null, 1); callback(null, 2) } else global.late = context.done"), ("A", "null"), ("A", "2"), events=[1, 2], logs=["<time>\tid-1\tERROR\tInvocation has already been reported as done. Cannot call complete more than once per invocation."]),
    # Errors
    Case("a rejection", answer("throw new TypeError('bad')"), ("E", thrown("TypeError", "bad", AT)), logs=[INVOKE_ERROR % ("TypeError", "bad", "TypeError", "bad", '"' + AT + '"')]),
    Case("an exception", callback("throw new RangeError('sync')"), ("E", thrown("RangeError", "sync", AT))),
    Case("an exception with more in it", callback("throw Object.assign(new Error('m'), {code: 'E', detail: {a: new Error('inner')}, cause: 1})"), ("E", re.compile(r'^\{"errorType":"Error","errorMessage":"m","trace":\[')), logs=None),
    Case("an error with a name of its own", callback("const e = new Error('m'); e.name = 'Own'; throw e"), ("E", error("Own", "m", "Own: m", AT))),
    Case("a text is thrown", answer("throw 'text'"), ("E", error("string", "text"))),
    Case("nothing is thrown", callback("throw undefined"), ("A", "null")),
    Case("nothing is rejected", callback("return Promise.reject()"), ("E", error("string", "handled"))),
    Case("after an error the next event is answered", answer("if (event) throw new Error('e'); return 'fine'"), ("E", thrown("Error", "e", AT)), ("A", '"fine"'), events=[1, 0]),
    Case("an answer that is no JSON", answer("const a = {}; a.a = a; return a"), ("E", thrown("Error", "Unable to stringify response body"))),
    Case("an event that is no JSON", answer("return 1"), ("E", re.compile('^{"errorType":"SyntaxError","errorMessage":"[^"]*JSON')), event=b"{nonsense"),
    Case("a client context that is no JSON", answer("return 1"), ("E", re.compile('^{"errorType":"Error","errorMessage":"Cannot parse ClientContext as json: SyntaxError: ')), meta={"client": "{x"}),
    Case("an uncaught exception ends event and process", answer("setTimeout(() => { throw new RangeError('late') }, 1); await new Promise(() => setTimeout(() => {}, 10000))"), ("E", thrown("RangeError", "late", "    at Timeout._onTimeout (<task>/app.js:1)")), ("exit", 129), status=129, logs=['<time>\tid-1\tERROR\tUncaught Exception \t{"errorType":"RangeError","errorMessage":"late","stack":["RangeError: late","    at Timeout._onTimeout (<task>/app.js:1)"]}']),
    Case("an unhandled rejection ends event and process", answer("Promise.reject(new Error('r')); await new Promise(() => setTimeout(() => {}, 10000))"), ("E", thrown("Runtime.UnhandledPromiseRejection", "Error: r")), ("exit", 128), status=128, logs=['<time>\tid-1\tERROR\tUnhandled Promise Rejection \t{"errorType":"Runtime.UnhandledPromiseRejection","errorMessage":"Error: r","reason":{"errorType":"Error","errorMessage":"r","stack":["Error: r","%s"]},"promise":{},"stack":["Runtime.UnhandledPromiseRejection: Error: r"]}' % AT]),
    Case("a rejection with a text", answer("Promise.reject('why'); await new Promise(() => setTimeout(() => {}, 10000))"), ("E", thrown("Runtime.UnhandledPromiseRejection", "why")), ("exit", 128), status=128),
    Case("an exit ends the process", answer("process.exit(7)"), ("exit", 7)),
    Case("a signal ends the process", answer("process.kill(process.pid, 'SIGKILL'); await new Promise(() => setTimeout(() => {}, 10000))"), ("exit", -9)),
    Case("an exception at load", "function f () { throw new TypeError('early') }\nf()\n", ("X", thrown("TypeError", "early", "    at f (<task>/app.js:1)", "    at <task>/app.js:2")), status=129),
    # Finding the handler
    Case("a missing file", {}, ("X", re.compile(r'^{"errorType":"Runtime.ImportModuleError","errorMessage":"Error: Cannot find module \'app\'\\nRequire stack:\\n- ')), status=129),
    Case("a missing package", "require('nosuch')", ("X", re.compile(r'^{"errorType":"Runtime.ImportModuleError","errorMessage":"Error: Cannot find module \'nosuch\'\\nRequire stack:\\n- <task>/app.js\\n- [^"]*","trace":\["Runtime.ImportModuleError: Error: Cannot find module \'nosuch\'","Require stack:",')), status=129),
    Case("a missing package of an ES module", {"app.mjs": "import 'nosuch'"}, ("X", re.compile(r'^{"errorType":"Error","errorMessage":"Cannot find package \'nosuch\' imported from <task>/app.mjs","trace"')), status=129),
    Case("a syntax error", "exports.handler = (", ("X", re.compile(r'^{"errorType":"Runtime.UserCodeSyntaxError","errorMessage":"SyntaxError: ')), status=129),
    Case("a syntax error in an ES module", {"app.mjs": "export const = 1"}, ("X", re.compile(r'^{"errorType":"Runtime.UserCodeSyntaxError","errorMessage":"SyntaxError: ')), status=129),
    failing("a missing handler", "exports.other = 1", "Runtime.HandlerNotFound", "app.handler is undefined or not exported"),
    failing("a handler that is no function", "exports.handler = 5", "Runtime.HandlerNotFound", "app.handler is not a function"),
    failing("a name without a dot", "", "Runtime.MalformedHandlerName", "Bad handler", handler="app"),
    failing("a name that climbs", "", "Runtime.MalformedHandlerName", "'../app.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler names.", handler="../app.handler"),
    Case("a nested handler", "exports.a = {b: {c: async () => 'nested'}}", ("A", '"nested"'), handler="app.a.b.c"),
    Case("a handler in a folder", {"sub/dir/mod.js": answer("return 1")}, ("A", "1"), handler="sub/dir/mod.handler"),
    Case("a file without extension", {"app": answer("return 'bare'")}, ("A", '"bare"')),
    Case("a .cjs file", {"app.cjs": answer("return 'cjs'")}, ("A", '"cjs"')),
    Case("an .mjs file", {"app.mjs": "export const handler = async () => 'mjs'"}, ("A", '"mjs"')),
    Case("an .mjs file with top-level await", {"app.mjs": "const x = await new Promise(r => setTimeout(r, 5, 'awaited'))\nexport const handler = async () => x"}, ("A", '"awaited"')),
    Case("a .js file in a module package", {"app.js": "export const handler = async () => 'esm'", **MODULE}, ("A", '"esm"')),
    Case("a .js file in a folder of a module package", {"sub/app.js": "export const handler = async () => 'esm'", **MODULE}, ("A", '"esm"'), handler="sub/app.handler"),
    Case("a nearer package decides", {"sub/app.js": answer("return 'cjs'"), "sub/package.json": "{}", **MODULE}, ("A", '"cjs"'), handler="sub/app.handler"),
    Case(".js comes before .mjs", {"app.js": answer("return 'js'"), "app.mjs": "export const handler = async () => 'mjs'"}, ("A", '"js"')),
    Case("a default export", {"app.mjs": "export default async () => 'default'"}, ("A", '"default"'), handler="app.default"),
    Case("a package as handler", {"node_modules/pkg/index.js": answer("return 'pkg'")}, ("A", '"pkg"'), handler="pkg.handler"),
    Case("a folder as handler", {"app/index.js": answer("return 'folder'")}, ("A", '"folder"')),
    Case("a dynamic import", {"app.js": answer("return (await import('./other.mjs')).x"), "other.mjs": "export const x = 1"}, ("A", "1")),
    Case("a required file", {"app.js": "exports.handler = require('./lib/other').handler", "lib/other.js": answer("return __filename.endsWith('lib/other.js')")}, ("A", "true")),
    Case("the module is not the main one", "exports.handler = async () => require.main === module", ("A", "false")),
    # Context
    Case("the context tells of the function", answer("return context"), ("A", '{"callbackWaitsForEmptyEventLoop":true,"functionVersion":"$LATEST","functionName":"test","memoryLimitInMB":"128","logGroupName":"/aws/lambda/test","logStreamName":"2026/01/01/[$LATEST]0123","invokedFunctionArn":"arn:aws:lambda:us-east-1:000000000000:function:test","awsRequestId":"id-1"}')),
    Case("the context's members", answer("return Object.keys(context)"), ("A", '["callbackWaitsForEmptyEventLoop","succeed","fail","done","functionVersion","functionName","memoryLimitInMB","logGroupName","logStreamName","clientContext","identity","invokedFunctionArn","awsRequestId","tenantId","getRemainingTimeInMillis"]')),
    Case("the context knows the time that is left", answer("const t = context.getRemainingTimeInMillis(); return t > 20000 && t <= 30000"), ("A", "true")),
    Case("the client's context", answer("return [context.clientContext, context.identity]"), ("A", '[{"custom":{"k":"v"},"client":{"app_title":"t"}},{"cognitoIdentityId":"i"}]'), meta={"client": CONTEXT, "identity": '{"cognitoIdentityId": "i"}'}),
    Case("the trace id is in the environment", answer("return process.env._X_AMZN_TRACE_ID"), ("A", '"Root=1-5bef4de7"')),
    # Console
    log("console.log('a', 1, {b: [1]})", "<time>\tid-1\tINFO\ta 1 { b: [ 1 ] }"),
    log("console.log('a\\nb'); console.info('%s-%d', 'x', 5)", "<time>\tid-1\tINFO\ta\nb", "<time>\tid-1\tINFO\tx-5"),
    log("console.debug('d'); console.trace('t'); console.warn('w'); console.error('e'); console.fatal('f')", *["<time>\tid-1\t%s\t%s" % p for p in (("DEBUG", "d"), ("TRACE", "t"), ("WARN", "w"), ("ERROR", "e"), ("FATAL", "f"))]),
    log("console.log(); console.log('%%'); console.log('%s'); console.log('100%', 5)", *["<time>\tid-1\tINFO\t" + t for t in ("undefined", "%%", "%s", "100% 5")]),
    log("console.log('d'); console.warn('w')", "<time>\tid-1\tWARN\tw", environment={"AWS_LAMBDA_LOG_LEVEL": "warn"}, name="the level from the configuration"),
    log("console.log('hello')", '{"timestamp":"<time>","level":"INFO","requestId":"id-1","message":"hello"}', environment=JSON_LOG, name="a text in JSON"),
    log("console.log({a: 1, e: new Error('x').message})", '{"timestamp":"<time>","level":"INFO","requestId":"id-1","message":{"a":1,"e":"x"}}', environment=JSON_LOG, name="an object in JSON"),
    log("console.warn('a %s', 'b', {c: 1})", '{"timestamp":"<time>","level":"WARN","requestId":"id-1","message":"a b { c: 1 }"}', environment=JSON_LOG, name="several values in JSON"),
    log("const a = {}; a.a = a; console.error(a)", '{"timestamp":"<time>","level":"ERROR","requestId":"id-1","message":"<ref *1> { a: [Circular *1] }"}', environment=JSON_LOG, name="a cycle in JSON"),
    log("console.log(5n)", '{"timestamp":"<time>","level":"INFO","requestId":"id-1","message":"5n"}', environment=JSON_LOG, name="a big integer in JSON"),
    log("console.log(undefined)", '{"timestamp":"<time>","level":"INFO","requestId":"id-1"}', environment=JSON_LOG, name="nothing in JSON"),
    log("console.error(Object.assign(new TypeError('t'), {code: 7}))", '{"timestamp":"<time>","level":"ERROR","requestId":"id-1","message":{"errorType":"TypeError","errorMessage":"t","stackTrace":["TypeError: t","%s"],"code":7}}' % AT, environment=JSON_LOG, name="an error in JSON"),
    log("const e = new TypeError('t'); e.stack = 'one line'; console.error('failed:', e)", '{"timestamp":"<time>","level":"ERROR","requestId":"id-1","message":"failed: [one line]","errorType":"TypeError","errorMessage":"t","stackTrace":["one line"]}', environment=JSON_LOG, name="a text and an error in JSON"),
    Case("a failed event in JSON log format", answer("throw new TypeError('bad')"), ("E", thrown("TypeError", "bad", AT)), environment=JSON_LOG, logs=['{"timestamp":"<time>","level":"ERROR","requestId":"id-1","message":{"errorType":"TypeError","errorMessage":"bad","stackTrace":["TypeError: bad","%s"]}}' % (AT)]),
    Case("the init phase has no request", "console.log('loading')\n" + answer(""), ("A", "null"), logs=["<time>\tundefined\tINFO\tloading"]),
    # Streams
    Case("a stream", streaming("stream.write('a'); stream.write(Buffer.from('b')); stream.end()"), ("S", BYTES + "ab"), ("S", BYTES + "ab"), events=[1, 2]),
    Case("a stream with a content type", streaming("stream.setContentType('text/plain'); stream.write('a'); stream.end()"), ("S", "text/plain\na")),
    Case("a stream ends with its last piece", streaming("stream.write('a'); stream.end('z')"), ("S", BYTES + "az"), like_lambda="it takes only a callback there"),
    Case("a stream with HTTP metadata", streaming("stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201, headers: {a: 'b'}}); stream.write('x'); stream.end()"), ("S", PRELUDE + '{"statusCode":201,"headers":{"a":"b"}}' + "\0" * 8 + "x")),
    Case("objects are written as JSON", streaming("stream.write({a: 1}); stream.write([2]); stream.end()"), ("S", BYTES + '{"a":1}[2]')),
    Case("a pipeline into the stream", streaming("await require('stream/promises').pipeline(require('stream').Readable.from(['a', 'b', 'c']), stream)"), ("S", BYTES + "abc"), like_lambda="its stream is no Node.js stream to some versions"),
    Case("a pipe into the stream", streaming("require('stream').Readable.from(['a', 'b']).pipe(stream); await new Promise(r => stream.on('finish', r))"), ("S", BYTES + "ab")),
    Case("a stream with pauses", streaming("for (const x of 'abc') { stream.write(x); await new Promise(r => setTimeout(r, 5)) } stream.end()"), ("S", BYTES + "abc")),
    Case("the context of a stream", streaming("stream.write([context.awsRequestId, context.functionName, context.callbackWaitsForEmptyEventLoop, typeof context.done]); stream.end()"), ("S", BYTES + '["id-1","test",true,"undefined"]')),
    Case("an error in the middle of a stream", streaming("stream.write('a'); throw new TypeError('broken')"), ("S", BYTES + "a"), ("F", re.compile('^{"errorType":"TypeError","errorMessage":"broken","trace"'))),
    Case("a content type that comes too late", streaming("stream.write('a'); stream.setContentType('x')"), ("S", BYTES + "a"), ("F", re.compile('^{"errorType":"Runtime.InvalidStreamingOperation","errorMessage":"Cannot set content-type, too late."'))),
    Case("a return value of a stream is ignored", streaming("stream.write('a'); stream.end(); return 5"), ("S", BYTES + "a"), logs=["<time>\tid-1\tWARN\tStreaming handlers ignore return values."]),
    Case("an uncaught exception in a stream", streaming("setTimeout(() => { throw new Error('late') }, 1); await new Promise(() => setTimeout(() => {}, 10000))"), ("E", re.compile('"errorMessage":"late"')), ("exit", 129), status=129),
    failing("a symbol that means nothing", "exports.handler = async () => {}\nexports.handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request'", "Runtime.MalformedStreamingHandler", "Only response streaming is supported.", like_lambda="it trips over its own error"),
    Case("no global if the function refuses it", answer("return typeof awslambda"), ("A", '"undefined"'), environment={"AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA": "true"}),
]

# What the official client leaves to the pipes, or does otherwise.
OWN = [
    Case("what is written to the streams is one event a line", answer("process.stdout.write('a\\nb'); process.stderr.write('c\\n'); process.stdout.write('d\\n'); console.log('e')"), ("A", "null"), logs=["a", "c", "bd", "<time>\tid-1\tINFO\te"]),
    Case("an unfinished line ends with its event", answer("process.stdout.write(String(event))"), ("A", "null"), ("A", "null"), events=[1, 2], logs=["1", "2"]),
    Case("pieces of a character are put together", answer("const b = Buffer.from('ü\\n'); process.stdout.write(b.subarray(0, 1)); process.stdout.write(b.subarray(1))"), ("A", "null"), logs=["ü"]),
    Case("a console of one's own", answer("new console.Console({stdout: process.stdout, stderr: process.stderr}).log('%s', 'mine')"), ("A", "null"), logs=["mine"]),
    Case("other methods of the console", answer("console.dir({a: 1}); console.assert(false, 'no'); console.count(); console.table([[1]])"), ("A", "null"), logs=None),
    Case("the streams have their descriptors", answer("return [process.stdout.fd, process.stderr.fd, process.stdout.writable, process.stdout === process.stdout, process.stdout.isTTY]"), ("A", "[1,2,true,true,null]")),
    Case("writing calls back", answer("return new Promise(r => process.stdout.write('x\\n', () => r('written')))"), ("A", '"written"'), logs=["x"]),
    Case("ending the stream does no harm", answer("process.stdout.end('bye\\n'); await new Promise(r => setTimeout(r, 5)); console.log('still')"), ("A", "null"), logs=["bye", "<time>\tid-1\tINFO\tstill"]),
    Case("a line longer than an event is cut", answer("console.log('x'.repeat(300000))"), ("A", "null"), logs=None),
    Case("nothing written before an error is the error alone", streaming("throw new TypeError('early')"), ("E", re.compile('^{"errorType":"TypeError","errorMessage":"early"'))),
    Case("an empty stream", streaming("stream.end()"), ("S", BYTES)),
    Case("HTTP metadata without a body", streaming("awslambda.HttpResponseStream.from(stream, {statusCode: 204}).end()"), ("S", PRELUDE + '{"statusCode":204}' + "\0" * 8)),
    Case("HTTP metadata and the last piece", streaming("awslambda.HttpResponseStream.from(stream, {statusCode: 200}).end('x')"), ("S", PRELUDE + '{"statusCode":200}' + "\0" * 8 + "x")),
    Case("a stream that is not finished", streaming("stream.write('a')"), ("S", BYTES + "a"), ("F", re.compile('^{"errorType":"Error","errorMessage":"Response stream is not finished."'))),
    Case("a stream that is destroyed", streaming("stream.write('a'); stream.destroy()"), ("S", BYTES + "a"), ("F", re.compile("Response stream is not finished."))),
    Case("a streaming handler that is not async", "exports.handler = awslambda.streamifyResponse((event, stream) => { stream.write('a') })", ("S", BYTES + "a"), ("F", error("string", "Streaming does not support non-async handlers."))),
    Case("an uncaught exception in the middle of a stream", streaming("stream.write('a'); setTimeout(() => { throw new Error('late') }, 1); await new Promise(() => setTimeout(() => {}, 10000))"), ("S", BYTES + "a"), ("F", re.compile('"errorMessage":"late"')), ("exit", 129), status=129),
    Case("a failing source breaks the pipeline", streaming("await require('stream/promises').pipeline((async function * () { yield 'a'; await 0; throw new Error('source') })(), stream)"), ("S", BYTES + "a"), ("F", re.compile('"errorMessage":"source"'))),
    Case("a promise of a stream is settled late", streaming("stream.end('a'); await new Promise(r => setTimeout(r, 20)); console.log('after')"), ("S", BYTES + "a"), logs=["<time>\tid-1\tINFO\tafter"]),
    Case("the SDK is missing", "require('@aws-sdk/client-s3')", ("X", re.compile(re.escape("Error: Cannot find module '@aws-sdk/client-s3' " + SDK + "\\nRequire stack:"))), status=129),
    Case("the old SDK is missing", answer("require('aws-sdk/clients/s3')"), ("E", re.compile(re.escape("Cannot find module 'aws-sdk/clients/s3' " + OLD_SDK)))),
    Case("the SDK is missing in an ES module", {"app.mjs": "import '@aws-sdk/client-s3'"}, ("X", re.compile(re.escape("Cannot find package '@aws-sdk/client-s3' " + SDK + " imported from"))), status=129),
    Case("the tenant is in the context and the log", answer("console.log('x'); return context.tenantId"), ("A", '"t-1"'), meta={"tenant": "t-1"}, environment=JSON_LOG, logs=['{"timestamp":"<time>","level":"INFO","requestId":"id-1","tenantId":"t-1","message":"x"}']),
    Case("an empty trace id is none", answer("return process.env._X_AMZN_TRACE_ID"), ("A", "null"), meta={"trace": ""}),
    Case("a load that never ends ends the process", {"app.mjs": "await new Promise(() => {})"}, ("exit", 13)),
]

NODES = rigs.nodes()


def matrix(table):
    return [pytest.param(version, case, id=version + ": " + case.name) for version in NODES for case in table]


@pytest.mark.parametrize("version, case", matrix(CASES + OWN))
def test_our_bootstrap(version, case, tmp_path):
    command = rigs.node_command(NODES[version])
    start = lambda folder, handler, environment: Instance(command, folder, handler, environment)
    check(case, start, str(tmp_path), "app.js", True)


@pytest.mark.parametrize("version, case", matrix(CASES + OWN))
def test_our_bootstrap_that_waited_for_its_function(version, case, tmp_path):
    command = rigs.node_command(NODES[version])
    waiting = lambda folder, handler, environment: Instance(command, folder, handler, environment, waits=True)
    check(case, waiting, str(tmp_path), "app.js", True)


@pytest.mark.parametrize("version, case", matrix(CASES))
def test_the_official_client(version, case, tmp_path):
    if case.like_lambda is not True:
        pytest.skip("ours differs on purpose: %s" % case.like_lambda)
    command = rigs.official_node(NODES[version])
    if command is None:
        pytest.skip("aws-lambda-ric is not in %s" % rigs.CACHE)
    start = lambda folder, handler, environment: Official(command, folder, handler, environment)
    check(case, start, str(tmp_path), "app.js", False)
