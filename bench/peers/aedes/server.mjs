// aedes as hrotti-bench starts it: node server.mjs CONFIG.json, or --version.
//
// CONFIG.json: {"tcp": "HOST:PORT", "ws": "HOST:PORT", "aedes": {options of Aedes.createBroker}}; port 0
// is any free one. Where it listens is printed, a line for each listener.

import { readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
import { WebSocketServer, createWebSocketStream } from 'ws'

const versionOf = (name) => {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url)
  return `${name} ${JSON.parse(readFileSync(file, 'utf8')).version}`
}

const listen = (server, scheme, place) => {
  const at = place.lastIndexOf(':')
  const options = { host: place.slice(0, at), port: Number(place.slice(at + 1)), backlog: 4096 }
  server.listen(options, () => {
    const { address, port } = server.address()
    console.log(`listening: ${scheme} ${scheme}://${address}:${port}`)
  })
}

if (process.argv[2] === '--version') {
  console.log(`${versionOf('aedes')} (${versionOf('ws')}, node ${process.versions.node})`)
  process.exit(0)
}

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const aedes = await Aedes.createBroker(config.aedes)
// Clients come and go; none of their errors concerns the others.
for (const event of ['clientError', 'connectionError']) aedes.on(event, () => {})

listen(createServer({ noDelay: true }, aedes.handle), 'tcp', config.tcp)

const http = createHttpServer({ noDelay: true })
const sockets = new WebSocketServer({ server: http, perMessageDeflate: false })
sockets.on('connection', (socket, request) => aedes.handle(createWebSocketStream(socket), request))
listen(http, 'ws', config.ws)
