'use strict'
// A training run: the function starts as ever, gets no event, and what V8 has made of its modules is left in a file.
// That is one line of JSON (the folder that Node.js has made for its version; name and size of each file in it), then the
// files one after the other.

const fs = require('fs')
const { join } = require('path')
const { enableCompileCache, flushCompileCache } = require('module')
const frames = require('./frames.js')

exports.train = async (start) => {
  const { ARCHIVE: archive } = process.env
  delete process.env.ARCHIVE
  if (!flushCompileCache) throw new Error('Node.js has compile caches that can be kept from 22.10 on')
  const made = archive + '.d'
  enableCompileCache(made)
  await frames.rehearse(() => {}, start)
  flushCompileCache()
  const [folder] = fs.readdirSync(made)
  const contents = fs.readdirSync(join(made, folder)).map((name) => [name, fs.readFileSync(join(made, folder, name))])
  const head = JSON.stringify({ folder, files: contents.map(([name, bytes]) => [name, bytes.length]) })
  fs.writeFileSync(archive, Buffer.concat([Buffer.from(head + '\n'), ...contents.map(([, bytes]) => bytes)]))
  process.removeAllListeners('exit')
  process.exit(0)
}
