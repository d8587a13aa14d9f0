'use strict'
// Handlers wrapped by `awslambda.streamifyResponse`: they write their answer to a stream.

const { Writable } = require('stream')
const { describe } = require('./bootstrap.js')
const console_ = require('./console.js')
const errors = require('./errors.js')
const frames = require('./frames.js')

const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')
const PRELUDE_TYPE = 'application/vnd.awslambda.http-integration-response'
const PRELUDE_END = new Uint8Array(8)
const UNFINISHED = 'Response stream is not finished.'

/** A function like `invoke` of bootstrap.js, for handlers that stream. */
exports.prepare = (begin, end) => (handler, fields, body) => {
  const stream = new ResponseStream(handler[HIGH_WATER_MARK])
  let open = true
  let returned = false
  const fail = (error) => {
    if (!open) return
    console_.logError('Invoke Error', error)
    finish(error)
  }
  /** Ends the event: before the first byte an error is the answer, after it the stream breaks off. */
  const finish = (error) => {
    if (!open) return
    open = false
    const failed = error !== undefined
    end(!failed ? 'Z' : stream.begun ? 'F' : 'E', failed ? errors.toJson(error) : '')
    if (failed) stream.destroy()
  }
  const settle = () => {
    if (returned && stream.writableFinished) finish()
    else if (returned && stream.destroyed) fail(new Error(UNFINISHED))
  }
  stream.on('close', settle).on('finish', settle).on('error', () => {})
  begin({ report: finish, drained: () => { if (!stream.writableFinished) fail(new Error(UNFINISHED)) } })
  try {
    const event = JSON.parse(body)
    const { succeed, fail: _, done, ...context } = describe(fields)
    const result = handler(event, stream, context)
    if (!result || typeof result.then !== 'function') {
      fail('Streaming does not support non-async handlers.')
      return
    }
    result.then((value) => {
      if (value !== undefined) console.warn('Streaming handlers ignore return values.')
      returned = true
      settle()
    }, fail)
  } catch (error) {
    fail(error)
  }
}

/** Lets the metadata of an HTTP response (status, headers, cookies) go before the stream's first byte. */
exports.withPrelude = (stream, prelude) => {
  stream.setContentType(PRELUDE_TYPE)
  const bytes = Buffer.concat([Buffer.from(JSON.stringify(prelude)), PRELUDE_END])
  stream._onBeforeFirstWrite = (write) => write(bytes)
  return stream
}

class ResponseStream extends Writable {
  constructor (highWaterMark) {
    super({ highWaterMark: Number.isInteger(highWaterMark) ? highWaterMark : undefined })
    this.begun = false // whether the server has heard of the stream
    this._opened = false // whether something was written
    this._contentType = 'application/octet-stream'
    this._onBeforeFirstWrite = undefined
  }

  setContentType (type) {
    if (this._opened) throw new errors.InvalidStreamingOperation('Cannot set content-type, too late.')
    this._contentType = type
  }

  write (chunk, encoding, done) {
    this._open()
    return super.write(isChunk(chunk) ? chunk : JSON.stringify(chunk), encoding, done)
  }

  end (chunk, encoding, done) {
    if (typeof chunk === 'function') return super.end(chunk)
    this._open()
    if (chunk === undefined || chunk === null) return super.end(chunk, encoding, done)
    return super.end(isChunk(chunk) ? chunk : JSON.stringify(chunk), encoding, done)
  }

  _open () {
    if (this._opened) return
    this._opened = true
    if (typeof this._onBeforeFirstWrite === 'function') this._onBeforeFirstWrite((chunk) => super.write(chunk))
  }

  _begin () {
    if (this.begun) return
    this.begun = true
    frames.sendBytes('S', this._contentType, new Uint8Array(0))
  }

  _write (chunk, encoding, done) {
    this._begin()
    if (chunk.length === 0) done()
    else frames.sendBytes('C', '', chunk, done)
  }

  _writev (chunks, done) {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'buffer', done)
  }

  _final (done) {
    this._begin()
    done()
  }
}

function isChunk (chunk) {
  return typeof chunk === 'string' || chunk instanceof Uint8Array
}
