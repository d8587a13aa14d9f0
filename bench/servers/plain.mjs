// The yardstick in Node: node:http and nothing else.
import http from 'node:http'

const server = http.createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const event = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {}
    const answer = JSON.stringify({ hello: event.name ?? 'world' })
    response.writeHead(200, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(answer) })
    response.end(answer)
  })
})
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
