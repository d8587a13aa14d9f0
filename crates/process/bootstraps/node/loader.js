'use strict'
// Finds the handler, as https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html and the public runtime client
// do: "folder/file.export.member" is a file without extension, .js, .mjs or .cjs, or else a package.

const fs = require('fs')
const path = require('path')
const errors = () => require('./errors.js') // most functions never need it

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')

/** The handler function of the name. Rejects with what the function's own code threw, or one of our errors. */
exports.load = async (root, name) => {
  if (name.includes('..')) {
    throw errors().create('MalformedHandlerName',
      `'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`)
  }
  const base = path.basename(name)
  const folder = name.slice(0, name.indexOf(base))
  const dot = base.indexOf('.')
  if (dot < 0) throw errors().create('MalformedHandlerName', 'Bad handler')
  setGlobal()
  const module = await loadModule(root, folder, base.slice(0, dot))
  const handler = base.slice(dot + 1).split('.').reduce((value, key) => value && value[key], module)
  if (!handler) throw errors().create('HandlerNotFound', `${name} is undefined or not exported`)
  if (typeof handler !== 'function') throw errors().create('HandlerNotFound', `${name} is not a function`)
  return handler
}

/** Forgets a script that has been loaded. (Of an ES module nobody can; it stays in a map that only Node.js itself sees.) */
exports.forget = (file) => {
  const loaded = require.cache[file]
  const at = module.children.indexOf(loaded)
  if (at >= 0) module.children.splice(at, 1)
  delete require.cache[file]
}

async function loadModule (root, folder, name) {
  try {
    const file = path.resolve(root, folder, name)
    const isModule = fs.existsSync(file + '.js') && isModuleFolder(path.dirname(file))
    const imported = (file) => import(file.replace(/[%?#]/g, encodeURIComponent))
    return (fs.existsSync(file) && require(file)) ||
      (!isModule && fs.existsSync(file + '.js') && require(file + '.js')) ||
      (isModule && await imported(file + '.js')) ||
      (fs.existsSync(file + '.mjs') && await imported(file + '.mjs')) ||
      (fs.existsSync(file + '.cjs') && require(file + '.cjs')) ||
      require(require.resolve(name, { paths: [root, folder] }))
  } catch (error) {
    if (error instanceof SyntaxError) throw errors().create('UserCodeSyntaxError', error)
    if (error && error.code === 'MODULE_NOT_FOUND') throw errors().create('ImportModuleError', error)
    throw error
  }
}

/** Whether a .js file in the folder is an ES module: the nearest package.json says so. */
function isModuleFolder (folder) {
  while (!folder.endsWith('/node_modules')) {
    const file = path.join(folder, 'package.json')
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, 'utf8')).type === 'module'
      } catch (error) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error)
        return false
      }
    }
    if (folder === '/') return false
    folder = path.dirname(folder)
  }
  return false
}

/** The global `awslambda`: https://docs.aws.amazon.com/lambda/latest/dg/config-rs-write-functions.html */
function setGlobal () {
  const refused = process.env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA
  if (refused === '1' || refused === 'true') return
  globalThis.awslambda = {
    streamifyResponse (handler, options) {
      handler[STREAMING] = 'response'
      if (options && typeof options.highWaterMark === 'number') {
        handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark)
      }
      return handler
    },
    HttpResponseStream: class HttpResponseStream {
      static from (stream, prelude) {
        return require('./streaming.js').withPrelude(stream, prelude)
      }
    }
  }
}
