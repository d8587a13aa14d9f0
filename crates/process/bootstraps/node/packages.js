'use strict'
// Packages of layers and of the SDK for `import`, which unlike `require` does not look into NODE_PATH. On Lambda it
// finds them, so here a package that is not found beside the code is looked for in those folders.

const fs = require('fs')
const Module = require('module')
const { pathToFileURL } = require('url')

let enabled = false

/** `folders` are folders named `node_modules`, in order. */
exports.enable = (folders) => {
  const parents = folders
    .filter((folder) => /\/node_modules\/*$/.test(folder) && fs.existsSync(folder))
    .map((folder) => pathToFileURL(folder.replace(/\/node_modules\/*$/, '/_')).href)
  if (enabled || parents.length === 0) return
  enabled = true
  if (Module.registerHooks) registerHere(parents)
  else if (Module.register) registerInThread(parents)
}

function registerHere (parents) {
  Module.registerHooks({
    resolve (specifier, context, next) {
      try {
        return next(specifier, context)
      } catch (error) {
        if (error.code !== 'ERR_MODULE_NOT_FOUND' || /^(?:[./]|\w+:)/.test(specifier)) throw error
        for (const parentURL of parents) {
          try {
            return next(specifier, { ...context, parentURL })
          } catch (_) {}
        }
        throw error
      }
    }
  })
}

/** Before Node.js 22.15 hooks run in a thread of their own, so they are text. */
function registerInThread (parents) {
  const hook = `
    const parents = ${JSON.stringify(parents)}
    export async function resolve (specifier, context, next) {
      try {
        return await next(specifier, context)
      } catch (error) {
        if (error.code !== 'ERR_MODULE_NOT_FOUND' || /^(?:[./]|\\w+:)/.test(specifier)) throw error
        for (const parentURL of parents) {
          try {
            return await next(specifier, { ...context, parentURL })
          } catch {}
        }
        throw error
      }
    }`
  Module.register('data:text/javascript,' + encodeURIComponent(hook))
}
