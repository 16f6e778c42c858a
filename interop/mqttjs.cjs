// mqttjs.cjs URL [CA_FILE]: MQTT.js over ws, wss or mqtts, 3.1, 3.1.1 and 5.
"use strict";
const fs = require("node:fs");
const mqtt = require("mqtt");
const checksOf = require("./mqttjs_checks.cjs");

const url = process.argv[2];
const scheme = url.split(":")[0];
const tls = process.argv[3] ? { ca: fs.readFileSync(process.argv[3]) } : {};
const options = scheme === "mqtts" ? tls : { wsOptions: tls };

checksOf(mqtt, url, `js${Date.now() % 1e9}`, options)
  .all(`MQTT.js over ${scheme}`, console.log)
  .then((held) => process.exit(held ? 0 : 1));
