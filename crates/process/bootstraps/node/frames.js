'use strict'
// The framed transport on file descriptors 3 and 4 (../README.md).
//
// Frames are written at once with a synchronous write, which costs a third of a stream's and keeps log events and
// answers in order even if the process dies right after. Only what the pipe cannot take goes through a stream.

const fs = require('fs')
const { Socket } = require('net')

const EVENTS = 3
const ANSWERS = 4
const HEAD = 12
const WINDOW = 64 * 1024 // bytes read at once; most events fit, head included
const MAX_RECORD = exports.MAX_RECORD = 256 * 1024 // bytes of one log event, CloudWatch's limit; longer ones are split
const MAX_QUEUED = 64 * 1024 * 1024 // bytes of log events waiting behind a stream's chunks; more are dropped
const PAUSE_MS = 1
const LOG = 'L'.charCodeAt(0)

const out = Buffer.allocUnsafeSlow(WINDOW)
const sleeper = new Int32Array(new SharedArrayBuffer(4))
let target = ANSWERS
let events = { ref () {}, unref () {} } // until it is opened
let answers = { writableLength: 0 }
let receive
let partial = null // a frame that did not come in one piece
let filled = 0
let last = 0 // 1 in frames after which the process ends
let listening = false // whether the server reads: between events it may not, and waits until we have read

/** Has `onEvent(fields, body)` called for each event from here on. */
exports.deliverTo = (onEvent) => {
  receive = onEvent
}

/** Before anything is opened: lets `play` run without an audience. What it sends is lost, and what it delivers comes to
 * `onEvent` as from the server. */
exports.rehearse = async (onEvent, play) => {
  receive = onEvent
  target = fs.openSync('/dev/null', 'w')
  try {
    await play()
  } finally {
    fs.closeSync(target)
    target = ANSWERS
  }
}

/** In a rehearsal: an event comes; resolves when it has had time to be answered. */
exports.deliver = (meta, body) => {
  const frame = Buffer.alloc(HEAD + meta.length + body.length)
  frame.write(meta + body, HEAD)
  head(frame, 'I', meta.length, body.length)
  take(frame.length, frame)
  return new Promise((resolve) => setImmediate(resolve))
}

/** Starts to listen; `onEvent` as above. */
exports.open = (onEvent) => {
  receive = onEvent
  const onread = { buffer: Buffer.allocUnsafeSlow(WINDOW), callback: take }
  events = new Socket({ fd: EVENTS, readable: true, writable: false, onread })
  answers = new Socket({ fd: ANSWERS, readable: false, writable: true })
  // As on Lambda, whose sandboxes end by SIGKILL: no exit listeners run.
  const close = () => {
    process.removeAllListeners('exit')
    process.exit(0)
  }
  events.on('end', close).on('error', close).on('close', close)
  answers.on('error', close).unref()
  exports.letGo()
}

/** While waiting for an event, the transport keeps the process alive … */
exports.keepAlive = () => {
  listening = false
  events.ref()
}

/** … and while one is answered, it does not. */
exports.letGo = () => {
  listening = true
  events.unref()
}

/** Sends a frame of one text. */
exports.sendText = (kind, text) => {
  if (text.length * 3 <= WINDOW - HEAD) {
    const size = text.length === 0 ? 0 : out.write(text, HEAD)
    head(out, kind, 0, size)
    put(out, HEAD + size)
  } else {
    const size = Buffer.byteLength(text)
    const frame = Buffer.allocUnsafe(HEAD + size)
    frame.write(text, HEAD)
    head(frame, kind, 0, size)
    put(frame, frame.length)
  }
}

/** Sends a frame of metadata and bytes; `done` is called when the server took it, or at once if it did. */
exports.sendBytes = (kind, meta, bytes, done) => {
  const start = HEAD + Buffer.byteLength(meta)
  const frame = Buffer.allocUnsafe(start + bytes.length)
  frame.write(meta, HEAD)
  frame.set(bytes, start)
  head(frame, kind, start - HEAD, bytes.length)
  put(frame, frame.length, done)
}

/** Sends one log event, which may hold several lines. */
exports.log = (text) => {
  if (answers.writableLength > MAX_QUEUED) return
  if (text.length * 3 <= MAX_RECORD) return exports.sendText('L', text)
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += MAX_RECORD) {
    exports.sendBytes('L', '', bytes.subarray(at, at + MAX_RECORD))
  }
}

/** What is sent from here on says that the process is about to end. */
exports.announceExit = () => {
  last = 1
}

/** Ends the process once everything is sent. */
exports.exit = (status) => {
  if (answers.writableLength === 0) process.exit(status)
  answers.ref()
  answers.write('', () => process.exit(status))
}

function head (frame, kind, meta, body) {
  frame[0] = kind.charCodeAt(0)
  frame[1] = last
  frame[2] = frame[3] = 0
  frame.writeUInt32LE(meta, 4)
  frame.writeUInt32LE(body, 8)
}

function put (frame, length, done) {
  let sent = 0
  if (answers.writableLength === 0) {
    sent = write(frame, 0, length)
    // A log event waits for the server, as a write to a pipe would; an answer leaves the loop free.
    while (sent < length && listening && frame[0] === LOG) {
      Atomics.wait(sleeper, 0, 0, PAUSE_MS)
      sent += write(frame, sent, length)
    }
  }
  if (sent < length) {
    const rest = frame.subarray(sent, length)
    answers.write(frame === out ? Buffer.from(rest) : rest, done)
  } else if (done) {
    done()
  }
}

function write (frame, from, to) {
  try {
    return fs.writeSync(target, frame, from, to - from)
  } catch (error) {
    if (error.code === 'EAGAIN') return 0
    process.exit(0) // the server is gone
  }
}

/** Reads what came: nearly always one whole frame. */
function take (size, window) {
  let from = 0
  while (from < size) {
    if (partial === null && size - from >= HEAD) {
      const length = total(window, from)
      if (length <= size - from) {
        arrived(window, from)
        from += length
        continue
      }
      partial = Buffer.allocUnsafe(length)
    } else if (partial === null) {
      partial = Buffer.allocUnsafe(HEAD)
    }
    const copied = window.copy(partial, filled, from, size)
    filled += copied
    from += copied
    if (filled === HEAD && partial.length === HEAD && total(partial, 0) > HEAD) {
      partial = Buffer.concat([partial], total(partial, 0))
    } else if (filled === partial.length) {
      const frame = partial
      partial = null
      filled = 0
      arrived(frame, 0)
    }
  }
  return true
}

function total (frame, at) {
  return HEAD + frame.readUInt32LE(at + 4) + frame.readUInt32LE(at + 8)
}

function arrived (frame, at) {
  const meta = at + HEAD
  const body = meta + frame.readUInt32LE(at + 4)
  receive(frame.toString('utf8', meta, body).split('\n'), frame.toString('utf8', body, at + total(frame, at)))
}
