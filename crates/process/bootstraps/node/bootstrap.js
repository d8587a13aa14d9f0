'use strict'
// Entry of the Node.js runtimes: `node bootstrap.js`, see ../README.md. Loads the handler once, then answers one event
// after the other, as AWS documents its Node.js runtimes and as its public runtime client behaves.
// CommonJS, because an ES module as entry costs every cold start some milliseconds.

const console_ = require('./console.js')
const environment = require('./environment.js')
const errors = () => require('./errors.js') // most functions never need it
const frames = require('./frames.js')
const loader = require('./loader.js')

const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId') // globals that logging libraries read
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId')
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
const LATE = 'Invocation has already been reported as done. Cannot call complete more than once per invocation.'

const nothing = () => {}
const now = Promise.resolve()

let configuration
let handler
let run = invoke
let event // the next event's fields
let payload // and its body
let trace
let tenant
let learned // what the server has asked to be told with the first outcome
/** What is open: `report(error)` tells the server of an error that nobody caught, `drained()` says what to do when the
 * event loop is empty (before `R`: what Node.js does itself). */
const init = { report: (error) => frames.sendText('X', errors().toJson(error)), drained: () => process.exit(13) }
const idle = { report: nothing, drained: nothing }
let open = init

async function main () {
  process.on('beforeExit', () => open.drained())
  process.on('uncaughtException', (error) => crash('Uncaught Exception', error, 129))
  process.on('unhandledRejection', (reason, promise) =>
    crash('Unhandled Promise Rejection', errors().create('UnhandledPromiseRejection', reason, promise), 128))
  const { BROOKLET_WAIT: waits, BROOKLET_TRAINING: trains } = process.env
  environment.patch()
  if (trains) return require('./training.js').train(start)
  if (waits) {
    await require('./wait.js').becomeFunction(receive, rehearse)
  } else {
    frames.open(receive)
    frames.sendText('G', '') // the server measures how long Node.js took to boot
  }
  try {
    await start()
  } catch (error) {
    crash('Uncaught Exception', error, 129)
  }
}

/** Loads the function that the environment names, and says that it is ready. */
async function start () {
  const env = process.env
  const cache = env.BROOKLET_COMPILE_CACHE
  if (cache) {
    delete env.BROOKLET_COMPILE_CACHE
    require('module').enableCompileCache(cache)
  }
  if (env.BROOKLET_LEARN) {
    delete env.BROOKLET_LEARN
    learned = require('./imports.js').learn()
  }
  configuration = {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME
  }
  trace = environment.firstTrace()
  console_.patch()
  handler = await loader.load(env.LAMBDA_TASK_ROOT || process.cwd(), env._HANDLER || '')
  run = chooseRun(handler)
  open = idle
  console_.endLines()
  frames.sendText('R', '')
  frames.keepAlive()
}

/** Starts as a function that is nobody's and answers an event, so that the code of both is compiled and all that Node.js
 * does at the first time is done. Nothing of it goes out, and it leaves nothing: when this is over, nothing was started. */
async function rehearse () {
  await start()
  await frames.deliver('id\n99999999999999\narn\n\n\n\n', '{"key":"value"}')
  open = init
  run = invoke
  handler = trace = tenant = configuration = undefined
  delete global[REQUEST_ID]
  delete global[TENANT_ID]
  delete global.awslambda
  frames.letGo()
}

function chooseRun (handler) {
  const streaming = handler[STREAMING]
  if (streaming === undefined || streaming === null || streaming === false) return invoke
  if (streaming === 'response') return require('./streaming.js').prepare(begin, end)
  throw errors().create('MalformedStreamingHandler', 'Only response streaming is supported.')
}

/** Takes one event: its metadata fields and its body (JSON text). */
function receive (fields, body) {
  frames.letGo() // while an event is open, only the function's own work keeps the loop alive
  global[REQUEST_ID] = fields[0]
  if (tenant !== fields[6]) global[TENANT_ID] = (tenant = fields[6]) || undefined
  if (trace !== fields[3]) environment.setTrace(trace = fields[3])
  event = fields
  payload = body
  now.then(runEvent)
}

/** Runs from a microtask: so the function's stack traces show its own frames and one of ours, not the transport's. */
function runEvent () {
  const fields = event
  const body = payload
  event = payload = undefined
  run(handler, fields, body)
}

/** A handler that answers by its promise, by its callback, or not at all. */
function invoke (handler, fields, body) {
  const call = open = new Call()
  try {
    const event = JSON.parse(body)
    call.context = describe(fields, call.succeed, call.failed, call.done)
    const result = handler(event, call.context, call.callback)
    if (result && typeof result.then === 'function') result.then(call.resolve, call.failed)
  } catch (error) {
    call.callback(error)
  }
}

/** An event on its way to its answer. The first of promise, callback, done, succeed and fail counts. */
class Call {
  constructor () {
    this.settled = false
    this.ended = false
    this.waits = false // for an empty event loop, with its result
    this.result = null
    this.context = undefined
    this.succeed = (result) => this.settle(undefined, result)
    this.failed = (error) => this.settle(error === undefined || error === null ? 'handled' : error)
    this.done = (error, result) => this.settle(error, result)
    this.callback = (error, result) => this.call(error, result)
    this.resolve = (result) => this.resolved(result)
  }

  resolved (result) {
    try {
      this.settle(undefined, result)
    } catch (error) {
      this.failed(error)
    }
  }

  call (error, result) {
    const failed = error !== undefined && error !== null
    if (failed || this.ended || !this.context.callbackWaitsForEmptyEventLoop) return this.settle(error, result)
    if (this.settled) return
    this.settled = this.waits = true
    this.result = result
  }

  settle (error, result) {
    if (this.settled) return
    if (error === undefined || error === null) this.complete(result)
    else this.fail(error)
    this.settled = true // not before: when the result is no JSON, the error that this throws is the answer
  }

  complete (result) {
    if (this.ended) console.error(LATE)
    else this.end('A', stringify(result))
  }

  fail (error) {
    console_.logError('Invoke Error', error)
    this.report(error)
  }

  report (error) {
    if (!this.ended) this.end('E', errors().toJson(error))
  }

  drained () {
    if (this.waits) setImmediate(() => this.complete(this.result))
    else this.complete(null)
  }

  end (kind, text) {
    this.ended = true
    end(kind, text)
  }
}

/** Opens an event: `call` has the methods of `init`. */
function begin (call) {
  open = call
}

/** Ends an event with its last frame; the next one may come. */
function end (kind, text) {
  open = idle
  console_.endLines()
  if (learned) {
    frames.sendText('M', learned())
    learned = undefined
  }
  frames.sendText(kind, text)
  frames.keepAlive()
}

/** The context object of an event, in one literal: objects that grow, or have accessors of their own, are slow. */
function describe (fields, succeed, fail, done) {
  const deadline = Number(fields[1])
  return {
    callbackWaitsForEmptyEventLoop: true,
    succeed,
    fail,
    done,
    functionVersion: configuration.functionVersion,
    functionName: configuration.functionName,
    memoryLimitInMB: configuration.memoryLimitInMB,
    logGroupName: configuration.logGroupName,
    logStreamName: configuration.logStreamName,
    clientContext: parse(fields[4], 'ClientContext'),
    identity: parse(fields[5], 'CognitoIdentity'),
    invokedFunctionArn: fields[2],
    awsRequestId: fields[0],
    tenantId: fields[6] || undefined,
    getRemainingTimeInMillis: () => deadline - Date.now()
  }
}

function parse (text, name) {
  if (!text) return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`)
  }
}

function stringify (result) {
  let text
  try {
    text = JSON.stringify(result === undefined ? null : result)
  } catch (error) {
    throw new Error('Unable to stringify response body')
  }
  return text === undefined ? '' : text // a function or a symbol, as Lambda: an empty body
}

/** Ends the process because of an error that nobody caught; the event it broke, if one is open, fails with it. */
function crash (title, error, status) {
  frames.announceExit()
  console_.logError(title, error)
  open.report(error)
  frames.exit(status)
}

exports.describe = describe
main()
