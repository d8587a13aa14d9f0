'use strict'
// Errors as the caller and the log see them.

const { readFileSync } = require('fs')

const SDK = /Cannot find (?:module|package) '(@(?:aws-sdk|smithy)\/[^/']+|aws-sdk\b)[^']*'/

/** The error as JSON for the caller. */
exports.toJson = (error) => JSON.stringify(exports.describe(error))

exports.describe = (error) => {
  try {
    if (isError(error)) {
      return { errorType: error.name, errorMessage: advise(error), trace: error.stack.split('\n') }
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] }
  } catch (_) {
    return {
      errorType: 'handled',
      errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack'
    }
  }
}

/** The error, with all that it carries, as a line of the text log. */
exports.toLogText = (error) => {
  try {
    return '\t' + JSON.stringify(error, (_, value) => value instanceof Error ? spread(value) : value)
  } catch (_) {
    return '\t' + exports.toJson(error)
  }
}

exports.intoError = (value) => {
  if (value instanceof Error) return value
  try {
    return new Error(value)
  } catch (_) { // it cannot become a text
    return new Error(exports.describe(value).errorMessage)
  }
}

function spread (error) {
  const fields = { errorType: error.name, errorMessage: advise(error), code: error.code, ...error }
  if (typeof error.stack === 'string') fields.stack = error.stack.split('\n')
  return fields
}

function isError (error) {
  return error instanceof Error || require('util').types.isNativeError(error) ||
    (error && [error.name, error.message, error.stack].every((text) => text && typeof text === 'string'))
}

/** The command by which this server's runtimes are completed, but for the language. */
function install () {
  try {
    return readFileSync(`${__dirname}/../install-command`, 'utf8')
  } catch (_) {
    return 'brooklet runtimes install'
  }
}

/** The error's message; a missing module of the AWS SDK is said with how to get it. */
function advise (error) {
  const message = error.message
  if (typeof message !== 'string') return message
  return message.replace(SDK, (missing, name) => name === 'aws-sdk'
    ? `${missing} (Lambda's Node.js carries version 2 of the AWS SDK no more: add it to the function's package)`
    : `${missing} (this part of the AWS SDK is not installed for this runtime: run \`${install()} node --with ${name}\`)`)
}

/** An error of the runtime's own: one of the names below, then what its constructor takes. */
exports.create = (name, ...rest) => new exports[name](...rest)

for (const name of [
  'ImportModuleError', 'HandlerNotFound', 'MalformedHandlerName', 'UserCodeSyntaxError', 'MalformedStreamingHandler',
  'InvalidStreamingOperation'
]) {
  exports[name] = { [name]: class extends Error {} }[name]
  exports[name].prototype.name = `Runtime.${name}`
}

exports.UnhandledPromiseRejection = class UnhandledPromiseRejection extends Error {
  constructor (reason, promise) {
    super(reason)
    this.reason = reason
    this.promise = promise
  }
}
exports.UnhandledPromiseRejection.prototype.name = 'Runtime.UnhandledPromiseRejection'
