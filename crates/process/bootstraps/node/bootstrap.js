'use strict'
// Entry of the Node.js runtimes: `node bootstrap.js`, see ../README.md. Loads the handler once, then answers one event
// after the other, as AWS documents its Node.js runtimes and as its public runtime client behaves.
// CommonJS, because an ES module as entry costs every cold start some milliseconds.

const console_ = require('./console.js')
const errors = () => require('./errors.js') // most functions never need it
const frames = require('./frames.js')

const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId') // globals that logging libraries read
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId')
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
const LATE = 'Invocation has already been reported as done. Cannot call complete more than once per invocation.'

const nothing = () => {}
const now = Promise.resolve()
const env = process.env
const environment = {
  functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
  functionName: env.AWS_LAMBDA_FUNCTION_NAME,
  memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
  logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
  logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME
}

let handler
let run = invoke
let event // the next event's fields
let payload // and its body
let trace = env._X_AMZN_TRACE_ID
let drained = () => process.exit(13) // what to do when the event loop is empty; before `R`: as Node.js does itself
let report = (error) => frames.sendText('X', errors().toJson(error)) // tells the server of an error that nobody caught

async function main () {
  process.on('beforeExit', () => drained())
  process.on('uncaughtException', (error) => crash('Uncaught Exception', error, 129))
  process.on('unhandledRejection', (reason, promise) =>
    crash('Unhandled Promise Rejection', errors().create('UnhandledPromiseRejection', reason, promise), 128))
  console_.patch()
  frames.open(receive)
  try {
    handler = await require('./loader.js').load(env.LAMBDA_TASK_ROOT || process.cwd(), env._HANDLER || '')
    run = chooseRun(handler)
  } catch (error) {
    crash('Uncaught Exception', error, 129)
    return
  }
  report = nothing
  drained = nothing
  console_.endLines()
  frames.sendText('R', '')
  frames.keepAlive()
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
  global[TENANT_ID] = fields[6] || undefined
  if (trace !== fields[3]) {
    trace = fields[3]
    if (trace) env._X_AMZN_TRACE_ID = trace
    else delete env._X_AMZN_TRACE_ID
  }
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
  let settled = false // the first of callback, done, succeed and fail counts
  let ended = false
  let waits = true

  const fail = (error) => {
    console_.logError('Invoke Error', error)
    if (!ended) finish('E', errors().toJson(error))
  }
  const complete = (result) => {
    if (ended) console.error(LATE)
    else finish('A', stringify(result))
  }
  const finish = (kind, text) => {
    ended = true
    end(kind, text)
  }
  const first = (settle) => (error, result) => {
    if (settled) return
    drained = nothing
    settle(error, result)
    settled = true
  }
  const settle = (error, result) => error === undefined || error === null ? complete(result) : fail(error)
  const callback = first((error, result) => {
    if (waits && (error === undefined || error === null)) drained = () => { setImmediate(complete, result) }
    else settle(error, result)
  })
  const succeed = first((result) => complete(result))
  const failed = first((error) => fail(error === undefined || error === null ? 'handled' : error))
  const own = {
    get callbackWaitsForEmptyEventLoop () { return waits },
    set callbackWaitsForEmptyEventLoop (value) { waits = value },
    succeed,
    fail: failed,
    done: first(settle)
  }
  begin((error) => { if (!ended) finish('E', errors().toJson(error)) }, () => complete(null))
  try {
    const result = handler(JSON.parse(body), describe(own, fields), callback)
    if (result && typeof result.then === 'function') {
      const settled = result.then(succeed, failed)
      if (settled && typeof settled.catch === 'function') settled.catch(failed)
    }
  } catch (error) {
    callback(error)
  }
}

/** Opens an event: how to report an error that nobody caught, and what an empty event loop means. */
function begin (onCrash, onDrained) {
  report = onCrash
  drained = onDrained
}

/** Ends an event with its last frame; the next one may come. */
function end (kind, text) {
  report = nothing
  drained = nothing
  console_.endLines()
  frames.sendText(kind, text)
  frames.keepAlive()
}

/** Completes `own` to the context object of the event. */
function describe (own, fields) {
  const deadline = Number(fields[1])
  own.functionVersion = environment.functionVersion
  own.functionName = environment.functionName
  own.memoryLimitInMB = environment.memoryLimitInMB
  own.logGroupName = environment.logGroupName
  own.logStreamName = environment.logStreamName
  own.clientContext = parse(fields[4], 'ClientContext')
  own.identity = parse(fields[5], 'CognitoIdentity')
  own.invokedFunctionArn = fields[2]
  own.awsRequestId = fields[0]
  own.tenantId = fields[6] || undefined
  own.getRemainingTimeInMillis = () => deadline - Date.now()
  return own
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
  report(error)
  frames.exit(status)
}

exports.describe = describe
main()
