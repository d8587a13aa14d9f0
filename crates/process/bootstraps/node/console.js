'use strict'
// `console`, `process.stdout` and `process.stderr` as log events: a call of `console` is one event however many lines
// it has, and what is written to a stream is one event a line. All travel over the transport, so their order holds.

const frames = require('./frames.js')
const errors = () => require('./errors.js') // most functions never need it

const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId')
const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL']
const METHODS = { trace: 'TRACE', debug: 'DEBUG', info: 'INFO', log: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' }

const streams = []
let asJson
let util

/** Replaces the methods of `console` that have a level, and both streams. */
exports.patch = () => {
  util = require('util')
  asJson = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON'
  const least = LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase())
  for (const [method, level] of Object.entries(METHODS)) {
    const shown = level === 'FATAL' || LEVELS.indexOf(level) >= least
    console[method] = !shown ? () => {} : asJson ? jsonLogger(level) : textLogger(level)
  }
  replaceStream('stdout', 1)
  replaceStream('stderr', 2)
}

/** Logs an error that ended an event or the process. */
exports.logError = (title, error) => {
  if (asJson) console.error(errors().intoError(error))
  else console.error(title, errors().toLogText(errors().intoError(error)))
}

/** Sends the unfinished lines of both streams: they belong to the event that ends here. */
exports.endLines = () => {
  for (const stream of streams) stream.endLine()
}

function textLogger (level) {
  return (message, ...parameters) => {
    const text = typeof message === 'string' && parameters.length === 0 ? message : util.format(message, ...parameters)
    frames.log(`${new Date().toISOString()}\t${global[REQUEST_ID]}\t${level}\t${text}`)
  }
}

function jsonLogger (level) {
  return (...parameters) => {
    const record = { timestamp: new Date().toISOString(), level, requestId: global[REQUEST_ID] }
    if (global[TENANT_ID] !== undefined) record.tenantId = global[TENANT_ID]
    frames.log(toJson(record, parameters))
  }
}

function toJson (record, parameters) {
  if (parameters.length <= 1) {
    record.message = parameters[0]
    try {
      return JSON.stringify(record, (_, value) => value instanceof Error ? { ...describe(value), ...value } : value)
    } catch (_) { // a cycle, a BigInt
      record.message = util.format(record.message)
      return JSON.stringify(record)
    }
  }
  record.message = util.format(...parameters)
  const error = parameters.find((parameter) => parameter instanceof Error)
  if (error) Object.assign(record, describe(error))
  return JSON.stringify(record)
}

function describe (error) {
  return {
    errorType: (error.constructor && error.constructor.name) || 'UnknownError',
    errorMessage: error.message,
    stackTrace: typeof error.stack === 'string' ? error.stack.split('\n') : error.stack
  }
}

function replaceStream (name, fd) {
  let stream
  Object.defineProperty(process, name, {
    configurable: true,
    enumerable: true,
    get () {
      if (stream === undefined) {
        stream = lineStream(fd)
        streams.push(stream)
      }
      return stream
    }
  })
}

/** A stream like the one Node.js gives for a pipe: writes are synchronous. */
function lineStream (fd) {
  const { Writable } = require('stream')
  const { StringDecoder } = require('string_decoder')
  const decoder = new StringDecoder('utf8')
  let rest = ''
  const stream = new Writable({
    decodeStrings: false,
    write (chunk, encoding, done) {
      rest += typeof chunk === 'string' ? chunk : decoder.write(chunk)
      let from = 0
      for (let to; (to = rest.indexOf('\n', from)) >= 0; from = to + 1) frames.log(rest.slice(from, to))
      rest = rest.slice(from)
      if (rest.length > frames.MAX_RECORD) stream.endLine()
      done()
    }
  })
  stream.endLine = () => {
    if (rest === '') return
    const line = rest
    rest = ''
    frames.log(line)
  }
  stream.fd = fd
  stream._type = 'pipe'
  stream._isStdio = true
  // Like the real one, it stays open: libraries end or destroy a stream that they were given.
  stream.destroySoon = stream.destroy
  stream._destroy = (error, done) => done(error)
  return stream
}
