'use strict'
// The environment that functions see. Each event has a trace id of its own, and the C library keeps every value that a
// variable ever had (about 100 bytes an event, and a search among them): so `process.env` is an object here that writes
// all but the trace id through to the process's environment. Programs that are started get what `process.env` says;
// only native code and worker threads, which copy the process's environment, do not see the trace id.

const TRACE_ID = '_X_AMZN_TRACE_ID'
let real
let seen
let first // trace id
const traps = {}

/** Replaces `process.env`. */
exports.patch = () => {
  real = process.env
  seen = { ...real }
  first = real[TRACE_ID]
  delete real[TRACE_ID]
  const env = process.env = new Proxy(seen, Object.assign(traps, {
    set (seen, name, value, receiver) {
      if (receiver !== env) return Reflect.set(seen, name, value, receiver)
      if (name === TRACE_ID) {
        seen[name] = `${value}`
      } else {
        real[name] = value
        seen[name] = real[name]
      }
      return true
    },
    defineProperty (seen, name, descriptor) {
      if (!Reflect.defineProperty(real, name, descriptor)) return false
      seen[name] = real[name]
      if (name === TRACE_ID) delete real[name]
      return true
    },
    deleteProperty (seen, name) {
      delete real[name]
      return delete seen[name]
    }
  }))
}

/** Has `onRead` called with what each look at a variable finds (of all of them: an empty text), until it is called with
 * nothing. */
exports.watch = (onRead) => {
  const watching = {
    get (seen, name) {
      onRead(seen[name])
      return seen[name]
    },
    has (seen, name) {
      onRead(seen[name])
      return name in seen
    },
    ownKeys (seen) {
      onRead('')
      return Reflect.ownKeys(seen)
    }
  }
  for (const name of Object.keys(watching)) {
    if (onRead) traps[name] = watching[name]
    else delete traps[name]
  }
}

/** Replaces all variables by others, given as [name, value]. Those that stay are not touched: to set one costs some
 * microseconds, and the time zone, of which Node.js tells V8 each time, a hundred. */
exports.takeOver = (variables) => {
  const others = new Map(variables)
  for (const name of Object.keys(seen)) {
    if (others.has(name)) continue
    delete real[name]
    delete seen[name]
  }
  for (const [name, value] of others) {
    if (seen[name] !== value) real[name] = seen[name] = value
  }
  first = real[TRACE_ID]
  delete real[TRACE_ID]
}

/** The trace id that the process was given. */
exports.firstTrace = () => first

/** Sets the trace id, or removes it. */
exports.setTrace = (id) => {
  if (id) seen[TRACE_ID] = id
  else delete seen[TRACE_ID]
}
