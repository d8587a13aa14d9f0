// The probe in JavaScript; probe.py says what it answers.
import { randomUUID } from 'node:crypto'

const instance = randomUUID()
let count = 0

const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms))

if (process.env.PROBE_INIT === 'fail') throw new TypeError('the probe was told to fail')
if (process.env.PROBE_INIT === 'exit') process.exit(7)
if (process.env.PROBE_INIT === 'hang') await sleep(600_000)

const actions = {
  echo: (event) => event.value ?? null,
  context: (event, context) => ({
    request_id: context.awsRequestId,
    arn: context.invokedFunctionArn,
    function: context.functionName,
    version: context.functionVersion,
    memory: Number(context.memoryLimitInMB),
    log_group: context.logGroupName,
    log_stream: context.logStreamName,
    remaining_ms: context.getRemainingTimeInMillis(),
    custom: context.clientContext?.custom ?? null,
  }),
  env: (event) => Object.fromEntries(event.names.map((name) => [name, process.env[name] ?? null])),
  fail: (event) => { throw new TypeError(event.message) },
  make: (event) => 'x'.repeat(event.bytes),
  measure: (event) => ({ length: event.value.length }),
  sleep: async (event) => { await sleep(event.ms); return { slept: event.ms, id: instance } },
  hold: async (event) => ({ id: instance, gate: await (await fetch(event.url)).text() }),
  exit: (event) => process.exit(event.code),
  log: (event) => { for (const line of event.lines) console.log(line); return null },
  instance: () => ({ id: instance, count }),
}

export async function handler(event, context) {
  count += 1
  return await actions[event.do](event, context)
}

// Writes `chunks` one by one and waits for `gate` (a URL that the test answers) before the last.
async function write(event, stream) {
  stream.setContentType(event.type ?? 'text/plain')
  for (const [n, chunk] of event.chunks.entries()) {
    if (n === event.chunks.length - 1 && event.gate) await fetch(event.gate)
    stream.write(chunk)
    if (event.fail_after === n + 1) throw new TypeError(event.message)
  }
  stream.end()
}

export const streaming = globalThis.awslambda?.streamifyResponse(async (event, stream) => write(event, stream))
