// chromium.cjs WORK HROTTI: pages in Chromium with MQTT.js over wss, 3.1, 3.1.1 and 5. The pages come from https servers of
// this script, and hrotti, which it starts, lets in the pages of one of them.
//
// Chromium trusts one key that openssl makes here, and nothing else that is signed by itself.
"use strict";
const assert = require("node:assert");
const { execFileSync, spawn } = require("node:child_process");
const crypto = require("node:crypto");
const fs = require("node:fs");
const https = require("node:https");
const path = require("node:path");
const { chromium } = require("playwright-core");

const [work, hrotti] = process.argv.slice(2);
const dir = path.join(work, "chromium");
const NAME = "Chromium with MQTT.js over wss";
const DEADLINE = 60_000;
let failed = false;

async function check(name, what) {
  try {
    await what();
    console.log(`ok     ${NAME}: ${name}`);
  } catch (e) {
    failed = true;
    console.log(`failed ${NAME}: ${name}: ${e.message.replaceAll("\n", " ")}`);
  }
}

function certificate(name) {
  const [key, cert] = [`${name}.key`, `${name}.pem`].map((file) => path.join(dir, file));
  execFileSync("openssl", [
    ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split(" "),
    ..."-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout".split(" "), key, "-out", cert,
  ], { stdio: "ignore" });
  return { key: fs.readFileSync(key), cert: fs.readFileSync(cert) };
}

// The hash of a certificate's public key, as Chromium wants it.
function pin({ cert }) {
  const key = new crypto.X509Certificate(cert).publicKey.export({ type: "spki", format: "der" });
  return crypto.createHash("sha256").update(key).digest("base64");
}

const files = {
  "/": ["text/html", '<!doctype html><title>x</title><script src="mqtt.js"></script><script src="checks.js"></script>'],
  "/mqtt.js": ["text/javascript", fs.readFileSync(require.resolve("mqtt/dist/mqtt.min"))],
  "/checks.js": ["text/javascript", fs.readFileSync(path.join(__dirname, "mqttjs_checks.cjs"))],
};

async function serve(tls) {
  const server = https.createServer(tls, (request, response) => {
    const [type, body] = files[request.url] ?? [];
    response.writeHead(type ? 200 : 404, { "Content-Type": type ?? "text/plain" });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `https://localhost:${server.address().port}`;
}

async function startBroker(origin) {
  const listener = (certificate, more) => ({
    url: "wss://127.0.0.1:0/mqtt",
    tls: { certificate: `${certificate}.pem`, key: `${certificate}.key` },
    ...more,
  });
  const listeners = {
    any: listener("trusted"),
    some: listener("trusted", { origins: [origin] }),
    stranger: listener("stranger"),
  };
  const config = path.join(dir, "config.json");
  fs.writeFileSync(config, JSON.stringify({ listeners }));
  const broker = spawn(hrotti, ["-conf", config], { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => broker.kill("SIGKILL"));
  const urls = {};
  await new Promise((resolve, reject) => {
    let said = "";
    setTimeout(() => reject(new Error(`the broker did not start: ${said}`)), DEADLINE).unref();
    broker.once("exit", () => reject(new Error(`the broker ended: ${said}`)));
    broker.stdout.on("data", (data) => {
      said += data;
      for (const [, name, port] of said.matchAll(/^listening: (\w+) wss:\/\/127\.0\.0\.1:(\d+)\/mqtt$/gm)) {
        urls[name] = `wss://localhost:${port}/mqtt`;
      }
      if (Object.keys(urls).length === Object.keys(listeners).length) resolve();
    });
  });
  return { broker, urls };
}

// What the page's WebSocket comes to: "open", or what Chromium's console says.
async function outcome(page, url) {
  const said = [];
  const listen = (message) => said.push(message.text());
  page.on("console", listen);
  const opened = await page.evaluate((url) => new Promise((resolve) => {
    const socket = new WebSocket(url, "mqtt");
    socket.onopen = () => { socket.close(); resolve(true); };
    socket.onerror = () => resolve(false);
  }), url);
  for (let turns = 100; !opened && said.length === 0 && turns > 0; turns -= 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  page.off("console", listen);
  return opened ? "open" : said.join(" ");
}

async function main() {
  fs.mkdirSync(dir, { recursive: true });
  const trusted = certificate("trusted");
  certificate("stranger");
  const [home, elsewhere] = [await serve(trusted), await serve(trusted)];
  const { broker, urls } = await startBroker(home);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    timeout: DEADLINE,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
      `--ignore-certificate-errors-spki-list=${pin(trusted)}`,
    ],
  });
  const open = async (url) => {
    const page = await browser.newPage();
    page.setDefaultTimeout(DEADLINE);
    if (url) await page.goto(url);
    return page;
  };

  const page = await open(home);
  await page.exposeFunction("print", (line) => console.log(line));
  const held = await page.evaluate(
    ([url, name]) => checksOf(mqtt, url, `page${Date.now() % 1e9}`, {}).all(name, print),
    [urls.some, NAME],
  );
  if (!held) failed = true;

  for (const version of [4, 5]) {
    await check(`${version === 4 ? "3.1.1" : 5} the Will of a page that is closed`, async () => {
      const topic = `closed/${version}`;
      await page.evaluate(async ([url, version, topic]) => {
        window.subscriber = await checksOf(mqtt, url, "page", {}).connect(version, "s");
        await subscriber.subscribe(topic, 1);
      }, [urls.some, version, topic]);
      const leaves = await open(home);
      await leaves.evaluate(async ([url, version, topic]) => {
        const will = { topic, payload: "gone", qos: 1, retain: false };
        window.client = await checksOf(mqtt, url, "page", {}).connect(version, "w", { will });
      }, [urls.some, version, topic]);
      await leaves.close();
      const came = await page.evaluate(async () => {
        const { payload } = await subscriber.message();
        await subscriber.disconnect();
        return payload.toString();
      });
      assert.strictEqual(came, "gone");
    });
    await check(`${version === 4 ? "3.1.1" : 5} a Session outlives its page`, async () => {
      const options = version === 4
        ? { clean: false }
        : { clean: false, properties: { sessionExpiryInterval: 3600 } };
      const args = [urls.some, version, options, `outlives/${version}`];
      const first = await open(home);
      await first.evaluate(async ([url, version, options, topic]) => {
        window.client = await checksOf(mqtt, url, "page", {}).connect(version, `k${version}`, options);
        await client.subscribe(topic, 2);
      }, args);
      await first.reload();
      const came = await first.evaluate(async ([url, version, options, topic]) => {
        const { connect } = checksOf(mqtt, url, "page", {});
        const publisher = await connect(version, "p");
        await publisher.publish(topic, "waiting", { qos: 2 });
        const client = await connect(version, `k${version}`, options);
        const { payload, qos } = await client.message();
        await Promise.all([publisher.disconnect(), client.disconnect()]);
        return [client.sessionPresent, payload.toString(), qos];
      }, args);
      assert.deepStrictEqual(came, [true, "waiting", 2]);
      await first.close();
    });
  }

  const other = await open(elsewhere);
  const blank = await open();
  await check("a page of an origin that is listed", async () => {
    assert.strictEqual(await outcome(page, urls.some), "open");
  });
  for (const [what, stranger] of [["another origin", other], ["the origin null", blank]]) {
    await check(`a page of ${what} is answered 403`, async () => {
      assert.match(await outcome(stranger, urls.some), /Unexpected response code: 403/);
    });
    await check(`a page of ${what}, where no origin is listed`, async () => {
      assert.strictEqual(await outcome(stranger, urls.any), "open");
    });
  }
  await check("another path is answered 404", async () => {
    assert.match(await outcome(page, `${urls.any}/x`), /Unexpected response code: 404/);
  });
  await check("a certificate that Chromium does not trust", async () => {
    assert.match(await outcome(page, urls.stranger), /ERR_CERT_AUTHORITY_INVALID/);
  });

  await browser.close();
  await check("the broker ends in good order", async () => {
    const ended = new Promise((resolve) => broker.once("exit", (code, signal) => resolve(signal ?? code)));
    broker.kill("SIGTERM");
    assert.strictEqual(await ended, 0);
  });
  process.exit(failed ? 1 : 0);
}

main().catch((e) => {
  console.log(`failed ${NAME}: ${e.stack}`);
  process.exit(1);
});
