// usage: node clients.js URL: drives a broker over WebSocket with MQTT.js, MQTT 3.1, 3.1.1 and 5.
const assert = require('node:assert')
const mqtt = require('mqtt')

const url = process.argv[2]
const versions = [
  { label: '3.1', protocolId: 'MQIsdp', protocolVersion: 3 },
  { label: '3.1.1', protocolVersion: 4 },
  { label: '5', protocolVersion: 5 },
]

// A broker that does not answer must not hold up the run.
setTimeout(() => { throw new Error('no answer in 60 s') }, 60_000).unref()

async function run ({ label, ...version }) {
  const options = { ...version, reconnectPeriod: 0 }
  const id = version.protocolVersion
  const subscriber = await mqtt.connectAsync(url, { ...options, clientId: `js-sub-${id}` })
  const publisher = await mqtt.connectAsync(url, { ...options, clientId: `js-pub-${id}` })
  for (const qos of [0, 1, 2]) {
    const topic = `js/${id}/${qos}`
    const [granted] = await subscriber.subscribeAsync(topic, { qos })
    assert.strictEqual(granted.qos, qos)
    for (const size of [5, 200, 100_000]) {
      const message = new Promise((resolve) => {
        subscriber.once('message', (topic, payload, packet) => resolve([topic, payload.length, packet.qos]))
      })
      await publisher.publishAsync(topic, 'x'.repeat(size), { qos })
      assert.deepStrictEqual(await message, [topic, size, qos])
    }
  }
  await publisher.endAsync()
  await subscriber.endAsync()
  console.log(`MQTT.js over ws, ${label}: QoS 0, 1 and 2`)
}

(async () => {
  for (const version of versions) await run(version)
})().catch((error) => { console.error(error); process.exit(1) })
