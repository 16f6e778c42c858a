// mqttjs.cjs URL [CA_FILE]: MQTT.js over ws, wss or mqtts, 3.1, 3.1.1 and 5.
"use strict";
const assert = require("node:assert");
const fs = require("node:fs");
const mqtt = require("mqtt");

const url = process.argv[2];
const scheme = url.split(":")[0];
const tls = process.argv[3] ? { ca: fs.readFileSync(process.argv[3]) } : {};
const run = `js${Date.now() % 1e9}`;
const DEADLINE = 60_000;

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing in time`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function connect(protocolVersion, name, options = {}) {
  const messages = [];
  const waiting = [];
  const client = mqtt.connect(url, {
    protocolVersion,
    protocolId: protocolVersion === 3 ? "MQIsdp" : "MQTT",
    clientId: run + name,
    clean: true,
    reconnectPeriod: 0,
    connectTimeout: DEADLINE,
    ...(scheme === "mqtts" ? tls : { wsOptions: tls }),
    ...options,
  });
  client.on("message", (topic, payload, packet) => {
    const next = waiting.shift();
    if (next) next(packet);
    else messages.push(packet);
  });
  const connack = await within(
    new Promise((resolve, reject) => {
      client.once("connect", resolve);
      client.once("error", reject);
    }),
    "CONNACK",
  );
  client.on("error", () => {});
  return {
    client,
    sessionPresent: connack.sessionPresent,
    publish: (topic, payload, options) =>
      within(client.publishAsync(topic, payload, options), "publish"),
    subscribe: (topic, qos) => within(client.subscribeAsync(topic, { qos }), "SUBACK"),
    message: () =>
      messages.length > 0
        ? Promise.resolve(messages.shift())
        : within(new Promise((resolve) => waiting.push(resolve)), "message"),
    disconnect: () => within(client.endAsync(), "end"),
    breakOff: () => client.stream.destroy(),
  };
}

const persistent = (version) =>
  version === 5 ? { clean: false, properties: { sessionExpiryInterval: 3600 } } : { clean: false };

const checks = {
  async "every QoS"(version, base) {
    const sub = await connect(version, "s");
    const pub = await connect(version, "p");
    for (const qos of [0, 1, 2]) {
      const topic = `${base}/${qos}`;
      await sub.subscribe(topic, 2);
      // Small, larger than one WebSocket length field can say, and larger than the next.
      for (const size of [5, 200, 200_000]) {
        const payload = Buffer.alloc(size, "hrotti");
        await pub.publish(topic, payload, { qos });
        const came = await sub.message();
        assert.ok(payload.equals(came.payload), `the payload of ${size} bytes is another one`);
        assert.deepStrictEqual([came.topic, came.qos, came.retain], [topic, qos, false]);
      }
    }
    await Promise.all([sub.disconnect(), pub.disconnect()]);
  },
  async retained(version, base) {
    const pub = await connect(version, "p");
    await pub.publish(`${base}/r`, "kept", { qos: 1, retain: true });
    const sub = await connect(version, "s");
    await sub.subscribe(`${base}/r`, 1);
    const came = await sub.message();
    assert.deepStrictEqual([came.payload.toString(), came.retain], ["kept", true]);
    await pub.publish(`${base}/r`, "", { qos: 1, retain: true });
    await Promise.all([sub.disconnect(), pub.disconnect()]);
  },
  async Will(version, base) {
    const sub = await connect(version, "s");
    await sub.subscribe(`${base}/w`, 1);
    const will = { topic: `${base}/w`, payload: Buffer.from("gone"), qos: 1, retain: false };
    (await connect(version, "d", { will })).breakOff();
    assert.strictEqual((await sub.message()).payload.toString(), "gone");
    await sub.disconnect();
  },
  async "persistent session"(version, base) {
    const name = `k${version}`;
    let sub = await connect(version, name, persistent(version));
    await sub.subscribe(`${base}/k`, 1);
    await sub.disconnect();
    const pub = await connect(version, "p");
    await pub.publish(`${base}/k`, "waiting", { qos: 1 });
    sub = await connect(version, name, persistent(version));
    // CONNACK of 3.1 has no Session Present.
    assert.strictEqual(sub.sessionPresent, version > 3);
    assert.strictEqual((await sub.message()).payload.toString(), "waiting");
    await Promise.all([sub.disconnect(), pub.disconnect()]);
  },
};

const checks5 = {
  async properties(version, base) {
    const sub = await connect(version, "s");
    const pub = await connect(version, "p");
    await sub.subscribe(`${base}/p`, 1);
    const properties = {
      contentType: "text/plain",
      responseTopic: "answers",
      correlationData: Buffer.from([0, 1]),
      userProperties: { b: ["1", "3"], a: "2" },
    };
    await pub.publish(`${base}/p`, "x", { qos: 1, properties });
    const came = (await sub.message()).properties;
    assert.strictEqual(came.contentType, "text/plain");
    assert.strictEqual(came.responseTopic, "answers");
    assert.ok(properties.correlationData.equals(came.correlationData));
    assert.deepStrictEqual({ ...came.userProperties }, properties.userProperties);
    await Promise.all([sub.disconnect(), pub.disconnect()]);
  },
};

async function main() {
  let failed = false;
  for (const [version, label] of [[3, "3.1"], [4, "3.1.1"], [5, "5"]]) {
    const table = version === 5 ? { ...checks, ...checks5 } : checks;
    for (const [name, what] of Object.entries(table)) {
      try {
        await what(version, `${run}/${version}/${name.replaceAll(" ", "_")}`);
        console.log(`ok     MQTT.js over ${scheme}: ${label} ${name}`);
      } catch (e) {
        failed = true;
        console.log(`failed MQTT.js over ${scheme}: ${label} ${name}: ${e.message}`);
      }
    }
  }
  process.exit(failed ? 1 : 0);
}

main();
