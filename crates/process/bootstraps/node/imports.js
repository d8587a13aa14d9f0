'use strict'
// What a function loads of the AWS SDK that the platform brings: told to the server by an instance that is asked to, and
// loaded ahead by a process that waits for its function. Files are named as seen from the SDK's folder; one that an ES
// module has imported is named once more, after `import:`, because Node.js then looks into it for what it exports.

const fs = require('fs')
const Module = require('module')
const environment = require('./environment.js')

// The last folder in which `require` and `import` look: the server has the SDK there.
const SDK = '/node_modules/'
const IMPORTED = 'import:'

const isSdk = (file) => typeof file === 'string' && file.startsWith(SDK)

/** Loads what the server names. Nothing that is not in the SDK's folder, wherever links lead; what is not there any more,
 * or cannot be loaded, the function will find out about. */
exports.loadAhead = async () => {
  const names = (process.env.BROOKLET_IMPORTS || '').split(',').filter(Boolean)
  delete process.env.BROOKLET_IMPORTS
  const require = Module.createRequire(SDK)
  for (const name of names) {
    const imported = name.startsWith(IMPORTED)
    const file = SDK + (imported ? name.slice(IMPORTED.length) : name)
    try {
      if (fs.realpathSync(file) !== file) continue
      if (imported) await import(file)
      else require(file)
    } catch (_) {}
  }
}

/** Watches from here on what is loaded of the SDK. Returns a function that ends this and gives what there is to tell:
 * microseconds, then the files, in an order in which they can be loaded, one a line.
 *
 * There is nothing to tell when some of it would not be the same in a process that is not this function's yet: when it
 * has read, while it was loaded, a variable that is set, or has looked for a module that is not in the SDK. */
exports.learn = () => {
  const files = []
  const imported = []
  const { _resolveFilename: resolve } = Module
  const { load } = Module.prototype
  let depth = 0
  let ms = 0
  let same = true

  Module._resolveFilename = function (request, parent, ...more) {
    const ofSdk = parent && isSdk(parent.filename)
    try {
      const file = resolve.call(this, request, parent, ...more)
      if (ofSdk && file.startsWith('/') && !isSdk(file)) same = false
      return file
    } catch (error) {
      if (ofSdk) same = false
      throw error
    }
  }
  Module.prototype.load = function (file) {
    if (!isSdk(file)) return load.call(this, file)
    const began = performance.now()
    depth++
    files.push(file.slice(SDK.length))
    if (!this.parent) imported.push(IMPORTED + file.slice(SDK.length))
    try {
      return load.call(this, file)
    } finally {
      if (--depth === 0) ms += performance.now() - began
    }
  }
  environment.watch((value) => {
    if (same && value !== undefined && sdkIsLoading()) same = false
  })
  return () => {
    Module._resolveFilename = resolve
    Module.prototype.load = load
    environment.watch(undefined)
    return [Math.round(ms * 1000), ...(same ? [...files, ...imported] : [])].join('\n')
  }
}

/** Whether this is called by the SDK because one of its files is being loaded, and not because it was called. */
function sdkIsLoading () {
  const { prepareStackTrace, stackTraceLimit } = Error
  Error.prepareStackTrace = (_, sites) => sites
  Error.stackTraceLimit = 200
  const sites = new Error().stack
  Object.assign(Error, { prepareStackTrace, stackTraceLimit })
  const files = sites.map((site) => site.getFileName()).filter((file) => file && !file.startsWith(__dirname))
  const caller = files.find((file) => !isSdk(file))
  return isSdk(files[0]) && caller !== undefined && caller.startsWith('node:internal/modules/')
}
