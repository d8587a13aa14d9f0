'use strict'
// A process that is started before anybody knows for which function: it waits to be told, blocked in one read, and then
// goes on as if it had been started for that one. What Node.js itself looks at when it starts is the same: the server
// sees to that.

const fs = require('fs')

// What every function's start would load.
require('net')
require('path')
require('util')

const FD = 3
const HEAD = 12

/** Takes over the variables and the working directory of a function. */
exports.becomeFunction = () => {
  const head = read(HEAD)
  const texts = read(head.readUInt32LE(8)).toString().split('\0')
  for (const name of Object.keys(process.env)) delete process.env[name]
  for (const text of texts) {
    const at = text.indexOf('=')
    if (at > 0) process.env[text.slice(0, at)] = text.slice(at + 1)
  }
  require('module')._initPaths() // NODE_PATH
  process.chdir(process.env.LAMBDA_TASK_ROOT)
}

/** Exactly so many bytes; the process ends when the server does. */
function read (length) {
  const bytes = Buffer.alloc(length)
  for (let filled = 0; filled < length;) {
    const more = fs.readSync(FD, bytes, filled, length - filled, null)
    if (more === 0) process.exit(0)
    filled += more
  }
  return bytes
}
