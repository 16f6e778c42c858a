// What MQTT.js has to do with a broker, in node and in a page of a browser alike: checksOf(mqtt, url, run, options) with
// the options that `mqtt.connect` takes. Nothing of node is used, and no Buffer.
"use strict";
(function () {
  const DEADLINE = 60_000;
  const versions = [[3, "3.1"], [4, "3.1.1"], [5, "5"]];

  function within(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${what}: nothing in time`)), DEADLINE);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
  }

  function equal(came, wanted) {
    const [a, b] = [JSON.stringify(came), JSON.stringify(wanted)];
    if (a !== b) throw new Error(`wanted ${b}, came ${a}`);
  }

  function sameBytes(came, wanted) {
    if (came.length !== wanted.length || came.some((byte, i) => byte !== wanted[i])) {
      throw new Error(`${came.length} bytes came that are not the ${wanted.length} that were sent`);
    }
  }

  function bytes(size) {
    return new Uint8Array(size).map((_, i) => "hrotti".charCodeAt(i % 6));
  }

  const persistent = (version) =>
    version === 5
      ? { clean: false, properties: { sessionExpiryInterval: 3600 } }
      : { clean: false };

  function checksOf(mqtt, url, run, common) {
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
        ...common,
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
          client.once("close", () => reject(new Error("closed before CONNACK")));
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

    const checks = {
      async "every QoS"(version, base) {
        const sub = await connect(version, "s");
        const pub = await connect(version, "p");
        for (const qos of [0, 1, 2]) {
          const topic = `${base}/${qos}`;
          await sub.subscribe(topic, 2);
          // Small, larger than one WebSocket length field can say, and larger than the next.
          for (const size of [5, 200, 200_000]) {
            const payload = bytes(size);
            await pub.publish(topic, payload, { qos });
            const came = await sub.message();
            sameBytes(came.payload, payload);
            equal([came.topic, came.qos, came.retain], [topic, qos, false]);
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
        equal([came.payload.toString(), came.retain], ["kept", true]);
        await pub.publish(`${base}/r`, "", { qos: 1, retain: true });
        await Promise.all([sub.disconnect(), pub.disconnect()]);
      },
      async Will(version, base) {
        const sub = await connect(version, "s");
        await sub.subscribe(`${base}/w`, 1);
        const will = { topic: `${base}/w`, payload: "gone", qos: 1, retain: false };
        (await connect(version, "d", { will })).breakOff();
        equal((await sub.message()).payload.toString(), "gone");
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
        equal(sub.sessionPresent, version > 3);
        equal((await sub.message()).payload.toString(), "waiting");
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
          correlationData: new Uint8Array([0, 1]),
          userProperties: { b: ["1", "3"], a: "2" },
        };
        await pub.publish(`${base}/p`, "x", { qos: 1, properties });
        const came = (await sub.message()).properties;
        equal([came.contentType, came.responseTopic], ["text/plain", "answers"]);
        sameBytes(came.correlationData, properties.correlationData);
        equal(came.userProperties, properties.userProperties);
        await Promise.all([sub.disconnect(), pub.disconnect()]);
      },
    };

    return {
      connect,
      // Says each outcome with `print`; whether all held.
      async all(name, print) {
        let held = true;
        for (const [version, label] of versions) {
          const table = version === 5 ? { ...checks, ...checks5 } : checks;
          for (const [check, what] of Object.entries(table)) {
            try {
              await what(version, `${run}/${version}/${check.replaceAll(" ", "_")}`);
              print(`ok     ${name}: ${label} ${check}`);
            } catch (e) {
              held = false;
              print(`failed ${name}: ${label} ${check}: ${e.message}`);
            }
          }
        }
        return held;
      },
    };
  }

  if (typeof module === "object") module.exports = checksOf;
  else window.checksOf = checksOf;
})();
