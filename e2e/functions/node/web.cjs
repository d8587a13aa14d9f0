// An Express application behind a function URL by way of serverless-http.
const express = require('express')
const serverless = require('serverless-http')

const app = express()
app.use(express.text({ type: '*/*' }))
app.get('/items/:id', (request, response) => response.json({ id: request.params.id, q: request.query.q ?? null }))
app.post('/upper', (request, response) => {
  response.cookie('seen', 'yes').status(201).send(request.body.toUpperCase())
})
app.get('/bytes', (request, response) => response.type('application/octet-stream').send(Buffer.from([0, 255, 1, 254])))

exports.handler = serverless(app, { binary: ['application/octet-stream'] })
