// As volatile.py.
import net from 'node:net'

if (Math.random() < Number(process.env.VOLATILE_INIT ?? 0)) process.exit(9)

const open = (gate, value) =>
  new Promise((resolve, reject) => {
    const there = net.connect(gate.port, gate.host, () => there.write(`${value}\n`))
    there.once('error', reject)
    there.once('data', () => resolve(there.destroy()))
  })

export const handler = async (event) => {
  if (event.gate) await open(event.gate, event.value)
  if (event.do === 'exit') process.exit(3)
  if (event.do === 'kill') process.kill(process.pid, 'SIGKILL')
  return event.value
}
