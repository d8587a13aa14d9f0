'use strict'
// A process that is started before anybody knows for which function: it plays through what every start does, waits to be
// told, and then goes on as if it had been started for that one. What Node.js itself looks at when it starts is the same:
// the server sees to that.

const Module = require('module')
const { join } = require('path')
const environment = require('./environment.js')
const frames = require('./frames.js')
const loader = require('./loader.js')

const ROOT = join(__dirname, 'rehearsal')

// What functions that talk to others need: 18 ms for 5 MiB. None of them looks at the environment when it is loaded.
for (const name of ['async_hooks', 'crypto', 'https', 'os', 'stream', 'url', 'util']) require(name)

/** Takes over the variables and the working directory of a function; before that has `rehearse` called for functions that
 * are nobody's. Events go to `receive`. */
exports.becomeFunction = async (receive, rehearse) => {
  const folder = process.cwd()
  if (process.env.BROOKLET_IMPORTS) await require('./imports.js').loadAhead()
  const own = Object.entries(process.env)
  await frames.rehearse(receive, async () => {
    for (const handler of ['script.handler', 'module.handler']) {
      takeOver([...own, ['LAMBDA_TASK_ROOT', ROOT], ['_HANDLER', handler]])
      await rehearse()
    }
  })
  loader.forget(join(ROOT, 'script.js'))
  process.chdir(folder)
  takeOver(parse(await told()))
  frames.deliverTo(receive)
}

function parse (variables) {
  return variables.split('\0').filter(Boolean).map((text) => {
    const at = text.indexOf('=')
    return [text.slice(0, at), text.slice(at + 1)]
  })
}

function takeOver (variables) {
  const { HOME, NODE_PATH } = process.env
  environment.takeOver(variables)
  // Where Node.js looks for modules that are nowhere else.
  if (HOME !== process.env.HOME || NODE_PATH !== process.env.NODE_PATH) Module._initPaths()
  process.chdir(process.env.LAMBDA_TASK_ROOT)
}

/** What the server says first, but for what is only said so that hearing it is rehearsed too. */
function told () {
  return new Promise((resolve) => {
    frames.open(([rehearsal], variables) => {
      if (rehearsal) return parse(variables)
      frames.letGo()
      resolve(variables)
    })
    frames.keepAlive()
  })
}
