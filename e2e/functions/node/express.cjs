// A plain Express application on $PORT: the HTTP contract.
const express = require('express')

const app = express()
const instance = require('node:crypto').randomUUID()
let atOnce = 0
let most = 0
app.use(express.text({ type: '*/*', limit: '20mb' }))
app.get('/hello', (request, response) => response.set('X-Query', request.query.name ?? '').send('hello from express'))
app.post('/upper', (request, response) => response.status(201).send(request.body.toUpperCase()))
app.post('/measure', (request, response) => response.json({ length: request.body.length }))
app.post('/', (request, response) => response.json({ event: JSON.parse(request.body) }))
app.get('/most', (request, response) => response.json({ most, instance }))
app.get('/events', async (request, response) => {
  response.type('text/event-stream')
  response.write('data: first\n\n')
  if (request.query.gate) await fetch(request.query.gate)
  response.end('data: last\n\n')
})
app.get('/hold', async (request, response) => {
  atOnce += 1
  most = Math.max(most, atOnce)
  await fetch(request.query.gate)
  atOnce -= 1
  response.json({ instance })
})
app.get('/crash', () => process.exit(3))
app.listen(Number(process.env.PORT), '127.0.0.1')
