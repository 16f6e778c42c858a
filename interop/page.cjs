// page.cjs HROTTI WORK check|screenshots: the page of the admin listener in Chromium.
//
// It starts the program, makes a load whose outcomes are known, and compares what the page shows with what the interface
// answers; then it presses every button and asks a Client, a socket or the interface for the effect. With `screenshots` it
// writes docs/images/page-*.png instead.
"use strict";
const assert = require("node:assert");
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const path = require("node:path");
const { isDeepStrictEqual } = require("node:util");
const mqtt = require("mqtt");
const { chromium } = require("playwright-core");

const [hrotti, work, mode] = process.argv.slice(2);
const NAME = "page";
const DEADLINE = 20_000;
const SECTIONS = [
  "overview",
  "clients",
  "subscriptions",
  "retained",
  "messages",
  "explain",
  "events",
  "listeners",
  "limits",
  "bans",
  "configuration",
];
const MARKUP = "<img src=x onerror=alert(1)>";
const HOSTILE = [
  MARKUP,
  "</td><script>alert(2)</script>",
  "gnp\u202Eexe.\u200Bx",
  "a\u0007b\u001b[31m",
  "'\"`${alert(3)}&lt;",
  "\u05d0\u05d1/\u0627",
];
let failed = false;

async function check(name, what) {
  try {
    await what();
    console.log(`ok     ${NAME}: ${name}`);
  } catch (e) {
    failed = true;
    console.log(`failed ${NAME}: ${name}: ${e.stack.replaceAll("\n", " ").slice(0, 900)}`);
  }
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Asks until `what` returns something true, and returns it.
async function until(what, why) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const answer = await what();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`it did not come: ${why}`);
    await pause(50);
  }
}

// ---- The program -----------------------------------------------------------------------------------------------------

const dir = path.join(work, "page");
const brokers = new Set();
process.on("exit", () => brokers.forEach((broker) => broker.kill("SIGKILL")));

// Starts the program with this configuration; resolves with the URLs of its listeners, by name, and that of the page.
async function start(name, config) {
  const file = path.join(dir, `${name}.json`);
  fs.writeFileSync(file, JSON.stringify(config));
  const process = spawn(hrotti, ["-conf", file], { stdio: ["ignore", "pipe", "pipe"] });
  brokers.add(process);
  let said = "";
  for (const stream of [process.stdout, process.stderr]) stream.on("data", (data) => (said += data));
  const ended = new Promise((resolve) => process.once("exit", (code, signal) => resolve(signal ?? code)));
  ended.then(() => brokers.delete(process));
  const wanted = Object.keys(config.listeners).length;
  const found = await until(() => {
    if (process.exitCode !== null) throw new Error(`the program ended: ${said}`);
    const listeners = Object.fromEntries(
      [...said.matchAll(/^listening: (\S+) (tcp:\/\/\S+)$/gm)].map(([, name, url]) => [name, url]),
    );
    const admin = said.match(/http:\/\/127\.0\.0\.1:[1-9]\d*/);
    return Object.keys(listeners).length === wanted && admin && { listeners, admin: admin[0] };
  }, `the program did not start: ${said}`);
  return { ...found, file, process, ended, said: () => said };
}

async function stop(broker) {
  broker.process.kill("SIGTERM");
  return broker.ended;
}

// ---- Clients ---------------------------------------------------------------------------------------------------------

const clients = new Set();

// A Client that is connected. `refused` Clients reject.
function connect(url, clientId, options = {}) {
  const client = mqtt.connect(url, {
    clientId,
    protocolVersion: 5,
    reconnectPeriod: 0,
    connectTimeout: DEADLINE,
    clean: true,
    keepalive: 60,
    ...options,
  });
  clients.add(client);
  client.messages = [];
  client.on("message", (topic, payload, { qos, retain, properties }) =>
    client.messages.push({ topic, payload: payload.toString(), qos, retain, properties }),
  );
  return new Promise((resolve, reject) => {
    client.once("connect", () => resolve(client));
    client.once("error", reject);
    client.once("close", () => reject(new Error("closed before CONNACK")));
  });
}

// Whether a TCP connection to the URL is accepted.
function accepts(url) {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = net.connect({ host: hostname, port: Number(port) });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

// The CONNACK of a CONNECT that the standard forbids: 3.1.1, no Client Identifier, and no Clean Session.
function refusal(url) {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: hostname, port: Number(port) }, () =>
      socket.write(Buffer.from("100c00044d5154540400003c0000", "hex")),
    );
    socket.once("data", (data) => resolve(data)).once("error", reject);
  });
}

// Messages with every outcome. Returns the Clients that stay.
async function makeLoad(url) {
  const reader = await connect(url, "reader", { username: "ann" });
  await reader.subscribeAsync("load/#", { qos: 1 });
  const away = await connect(url, "away", { clean: false, properties: { sessionExpiryInterval: 3600 } });
  await away.subscribeAsync(["away/+", "more/#"], { qos: 1 });
  await away.endAsync();
  const slow = await connect(url, "slow", { properties: { receiveMaximum: 3 }, customHandleAcks: () => {} });
  await slow.subscribeAsync("slow", { qos: 1 });
  const publisher = await connect(url, "publisher");
  const many = (count, topic, qos) =>
    Promise.all(Array.from({ length: count }, (_, i) => publisher.publishAsync(topic, `${i}`, { qos })));
  // Fewer at once than may wait, so that none is dropped.
  for (let sent = 50; sent <= 500; sent += 50) {
    await many(50, "load/a", 1);
    await until(() => reader.messages.length === sent, "the load");
  }
  await many(70, "nobody/listens", 1);
  await many(150, "away/a", 1);
  await many(5, "away/b", 0);
  await many(8, "slow", 1);
  return { reader, slow, publisher };
}

const LOAD = { offered: 733, delivered: 500, waiting: 105, inflight: 3, expired: 0, dropped: 55, filtered: 70 };
const REASONS = { "queue full": 50, away: 5, "no subscription": 70 };

// ---- The page --------------------------------------------------------------------------------------------------------

function launch() {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    timeout: 60_000,
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
    ],
  });
}

// A page whose faults are written down: dialogs, errors, and requests to other origins.
async function open(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1600, height: 1000 }, colorScheme: "light", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  page.faults = [];
  page.expected = [];
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("pageerror", (error) => page.faults.push(error.stack));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) page.faults.push(message.text());
  });
  page.on("request", (request) => {
    const to = request.url();
    if (!to.startsWith(`${url}/`) && !to.startsWith("data:")) page.faults.push(`request to ${to}`);
  });
  await page.goto(url);
  return page;
}

const show = async (page, section) => {
  await page.evaluate((section) => (location.hash = `#/${section}`), section);
  await page.waitForSelector(`#${section.split("/")[0]}:not([hidden])`);
};
const live = (page) => page.waitForSelector('#connection[data-state="live"]');
const text = (page, selector) => page.locator(selector).innerText();
const rows = (page, table) => page.locator(`#${table} tbody tr`);
const row = (page, table, part) => page.locator(`#${table} tbody tr`, { hasText: part });
const confirm = (page) => page.click("#confirm[open] #confirm-yes");
const waitText = (page, selector, part) => page.locator(selector, { hasText: part }).first().waitFor();

function shownBooks(page, host) {
  return page.evaluate(
    (host) =>
      Object.fromEntries(
        [...document.querySelectorAll(`${host} .term`)]
          .filter((term) => term.checkVisibility())
          .map((term) => [term.dataset.term, Number(term.querySelector(".value").textContent.replace(/\D/g, ""))]),
      ),
    host,
  );
}

// The numbers of the balance line: without messages that were handed over, as long as there are none.
const numbersOf = ({ handedOver, ...ledger }) =>
  Object.fromEntries(
    Object.entries(handedOver ? { ...ledger, handedOver } : ledger).map(([term, value]) => [term, value.total ?? value]),
  );

// Texts whose contrast is below that of WCAG AA, controls without a name, and images without an alternative.
function audit() {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.startsWith("color(srgb")
      ? color
          .match(/[\d.]+/g)
          .map(Number)
          .map((part, index) => (index < 3 ? part * 255 : part))
      : color.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (top, under) => ({
    r: top.r * top.a + under.r * (1 - top.a),
    g: top.g * top.a + under.g * (1 - top.a),
    b: top.b * top.a + under.b * (1 - top.a),
    a: 1,
  });
  const luminance = ({ r, g, b }) =>
    [r, g, b]
      .map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
      .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const backgroundOf = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), { r: 255, g: 255, b: 255, a: 1 });
  };
  const wrong = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (
      !texts.currentNode.data.trim() ||
      !element.checkVisibility() ||
      element.closest("noscript, script, .unseen, .skip, :disabled")
    )
      continue;
    const style = getComputedStyle(element);
    const color = parse(element.closest("svg") ? style.fill : style.color);
    const [one, other] = [luminance(over(color, backgroundOf(element))), luminance(backgroundOf(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 600);
    if (contrast < (large ? 3 : 4.5))
      wrong.push(`contrast ${contrast.toFixed(2)}: ${texts.currentNode.data.trim().slice(0, 30)}`);
  }
  for (const control of document.querySelectorAll("input, select, textarea, button, meter, [role=img], [role=slider]")) {
    const named = control.labels?.length || control.getAttribute("aria-label") || control.textContent.trim();
    if (control.checkVisibility() && !named) wrong.push(`no name: ${control.outerHTML.slice(0, 80)}`);
  }
  return wrong;
}

// What hostile texts must not have made.
function injected() {
  return [...document.querySelectorAll("img, iframe, object, embed, body script:not(:last-of-type), [onerror], [onload]")].map(
    (element) => element.outerHTML,
  );
}

// ---- Checks ----------------------------------------------------------------------------------------------------------

async function checkFigures(page, get) {
  await check("the balance line shows the outcomes of the load", async () => {
    const books = async () => numbersOf((await get("/status")).ledger);
    await until(async () => isDeepStrictEqual(await books(), LOAD), "the load in the books, acknowledged");
    await until(async () => isDeepStrictEqual(await shownBooks(page, "#books"), LOAD), "the load on the page");
    const shown = await shownBooks(page, "#books");
    const { offered, ...parts } = shown;
    assert.strictEqual(
      Object.values(parts).reduce((sum, part) => sum + part),
      offered,
    );
    assert.match(await text(page, "#books .verdict"), /The books balance/);
  });
  await check("the bar is proportional to the outcomes", async () => {
    const shares = await page.evaluate(() =>
      Object.fromEntries(
        [...document.querySelectorAll("#books .parts span:not([hidden])")].map((part) => [
          part.dataset.term,
          Number(part.style.flexGrow),
        ]),
      ),
    );
    assert.deepStrictEqual(
      Object.keys(shares),
      Object.keys(LOAD).filter((term) => term !== "offered" && LOAD[term] > 0),
    );
    for (const [term, share] of Object.entries(shares))
      assert.ok(Math.abs(share - LOAD[term] / LOAD.offered) < 0.001, `${term} ${share}`);
  });
  await check("drops and filtered messages are shown by reason", async () => {
    const shown = await page.evaluate(() =>
      Object.fromEntries(
        [...document.querySelectorAll("#overview [data-reason]")]
          .map((cell) => [cell.dataset.reason, Number(cell.dataset.value)])
          .filter(([, count]) => count > 0),
      ),
    );
    assert.deepStrictEqual(shown, REASONS);
  });
  await check("the tiles equal the answer of the interface", async () => {
    const status = await get("/status");
    for (const key of ["connections", "sessions", "subscriptions"]) {
      await page.waitForFunction(
        ([key, value]) => document.getElementById(`tile-${key}`).dataset.value === String(value),
        [key, status[key]],
      );
    }
  });
  await check("charts have axes, units and values by pointer and by key", async () => {
    const charts = page.locator("#charts svg");
    assert.strictEqual(await charts.count(), 4);
    await page.waitForFunction(() =>
      [...document.querySelectorAll("#charts svg")].every(
        (chart) => chart.querySelector("path.line") && chart.querySelectorAll("text").length > 3,
      ),
    );
    await charts.first().hover();
    assert.match(await text(page, "#charts .tip:not([hidden])"), /\d\d:\d\d:\d\d +in [\d.,]+, out [\d.,]+/);
    await page.mouse.move(0, 0);
    await charts.nth(1).focus();
    await page.keyboard.press("Home");
    assert.match(await charts.nth(1).getAttribute("aria-valuetext"), /in [\d.,]+ (B|KiB|MiB)/);
    await page.keyboard.press("Escape");
  });
}

async function checkClients(page, get, url, load) {
  await check("Clients: search, state and order", async () => {
    await show(page, "clients");
    await row(page, "clients-table", "publisher").waitFor();
    await page.fill("#clients-form [name=search]", "awa");
    await page.waitForFunction(() => document.querySelectorAll("#clients-table tbody tr").length === 1);
    assert.match(await text(page, "#clients-table tbody"), /away/);
    await page.fill("#clients-form [name=search]", "");
    await page.selectOption("#clients-form [name=state]", "connected=false");
    await page.waitForFunction(() => document.querySelectorAll("#clients-table tbody tr").length === 1);
    await page.selectOption("#clients-form [name=state]", "");
    await page.click("#clients-table th button:text-is('Dropped')");
    await page.waitForFunction(() => /away/.test(document.querySelector("#clients-table tbody tr td").textContent));
    await page.selectOption("#clients-form [name=sort]", "clientId");
  });
  await check("Clients: the detail equals the answer of the interface", async () => {
    await show(page, "clients");
    await page.click("#clients-table a:text-is('away')");
    await page.waitForSelector("#client[open] #client-queue tbody tr");
    const client = await get("/clients/away");
    assert.deepStrictEqual(await shownBooks(page, "#client-books"), numbersOf(client.ledger));
    assert.strictEqual(numbersOf(client.ledger).waiting, 100);
    assert.strictEqual(await text(page, "#client-subscriptions-count"), "2");
    assert.strictEqual(await text(page, "#client-queue-count"), "100");
    const facts = await text(page, "#client-facts");
    for (const part of ["tcp", "5.0", "DISCONNECT by the Client", "1 h"])
      assert.ok(facts.includes(part), `${part} in ${facts}`);
    await page.click("#client-queue-pager button:text-is('Next')");
    await waitText(page, "#client-queue-pager", "51 to 100 of 100");
    await page.keyboard.press("Escape");
    await page.waitForSelector("#client", { state: "hidden" });
  });
  await check("Clients: Disconnect disconnects, and Cancel does not", async () => {
    const victim = await connect(url, "victim");
    let closed = false;
    victim.once("close", () => (closed = true));
    await page.fill("#clients-form [name=search]", "victim");
    await row(page, "clients-table", "victim").locator("button").click();
    await page.click("#confirm-no");
    await page.waitForSelector("#confirm", { state: "hidden" });
    assert.ok((await get("/clients/victim")).connected && !closed);
    await row(page, "clients-table", "victim").locator("button").click();
    await confirm(page);
    await until(() => closed, "the end of the connection");
    await page.fill("#clients-form [name=search]", "");
  });
  await check("Overview: the slowest consumers lead to their details", async () => {
    await show(page, "overview");
    await page.locator("#slow a", { hasText: "slow" }).waitFor();
    await page.locator("#slow a", { hasText: "slow" }).click();
    await waitText(page, "#client-title", "slow");
    await page.click("#client-close");
    assert.strictEqual(load.slow.connected, true);
  });
}

async function checkLists(page, get, url, load) {
  await check("Subscriptions: by Topic Filter and by Topic Name", async () => {
    await show(page, "subscriptions");
    const { count } = await get("/subscriptions");
    await page.waitForFunction((count) => document.querySelectorAll("#subscriptions-table tbody tr").length === count, count);
    await page.fill("#subscriptions-form [name=text]", "away/+");
    await page.waitForFunction(() => document.querySelectorAll("#subscriptions-table tbody tr").length === 1);
    await page.fill("#subscriptions-form [name=text]", "");
    await page.selectOption("#subscriptions-form [name=by]", "topic");
    await page.fill("#subscriptions-form [name=text]", "load/x");
    await waitText(page, "#subscriptions-table tbody", "reader");
    await page.fill("#subscriptions-form [name=text]", "");
  });
  await check("Retained: Clear clears one, and all that match", async () => {
    for (const topic of ["kept/a", "kept/b", "kept/c", "other"])
      await load.publisher.publishAsync(topic, `value of ${topic}`, { qos: 1, retain: true });
    const topics = async () => (await get("/mqtt/retainer/messages?filter=%23")).data.map(({ topic }) => topic).sort();
    await show(page, "retained");
    await waitText(page, "#retained-table tbody", "value of kept/a");
    await row(page, "retained-table", "kept/b").locator("button").click();
    await confirm(page);
    await until(async () => !(await topics()).includes("kept/b"), "the clearing of one");
    assert.deepStrictEqual(await topics(), ["kept/a", "kept/c", "other"]);
    await page.fill("#retained-form [name=filter]", "kept/#");
    await page.waitForFunction(() => document.querySelectorAll("#retained-table tbody tr").length === 2);
    await page.click("#retained-clear");
    assert.match(await text(page, "#confirm-title"), /Clear 2 retained messages/);
    await confirm(page);
    await until(async () => (await topics()).length === 1, "the clearing of all that match");
    const late = await connect(url, "late");
    await late.subscribeAsync("#", { qos: 1 });
    await until(() => late.messages.length > 0, "the message that is left");
    assert.deepStrictEqual(
      late.messages.map(({ topic }) => topic),
      ["other"],
    );
    await late.endAsync();
    await page.fill("#retained-form [name=filter]", "#");
  });
  await check("Limits: the share of each is that of the interface", async () => {
    await show(page, "limits");
    const limits = await get("/limits");
    const used = limits.find(({ name }) => /connectionsMax$/.test(name) && !/admin/i.test(name));
    await page.fill("#limits-form [name=text]", used.name);
    await row(page, "limits-table", used.name).first().waitFor();
    const shown = await row(page, "limits-table", used.name).first().innerText();
    assert.ok(shown.includes(`${used.used} connections`) && shown.includes("500 connections"), shown);
    await page.fill("#limits-form [name=text]", "");
    await page.waitForFunction((count) => document.querySelectorAll("#limits-table tbody tr").length === count, limits.length);
  });
}

async function checkMessages(page, load) {
  await check("Publish publishes, with QoS, retain and properties", async () => {
    await show(page, "messages");
    load.reader.messages = [];
    await page.fill("#publish [name=topic]", "load/page");
    await page.fill("#publish [name=payload]", "from the page\nwith two lines");
    await page.selectOption("#publish [name=qos]", "1");
    await page.click("#publish summary");
    await page.fill("#publish [name=contentType]", "text/plain");
    await page.fill("#publish [name=userProperties]", "key=a=b");
    await page.click("#publish button.main");
    await until(() => load.reader.messages.length > 0, "the message of the page");
    const [{ topic, payload, qos, properties }] = load.reader.messages;
    assert.deepStrictEqual([topic, payload, qos], ["load/page", "from the page\nwith two lines", 1]);
    assert.strictEqual(properties.contentType, "text/plain");
    assert.strictEqual(properties.userProperties.key, "a=b");
    await waitText(page, "#published", "Published to 1 subscription.");
    await page.fill("#publish [name=topic]", "nobody/at/all");
    await page.click("#publish button.main");
    await waitText(page, "#published", "no subscription matches");
    await page.fill("#publish [name=topic]", "load/binary");
    await page.selectOption("#publish [name=coding]", "payloadBase64");
    await page.fill("#publish [name=payload]", "aGk=");
    await page.click("#publish button.main");
    await until(
      () => load.reader.messages.some(({ topic, payload }) => topic === "load/binary" && payload === "hi"),
      "the Base64 message",
    );
  });
  await check("Tail: shows what passes, and stands still while it is paused", async () => {
    await page.fill("#tail-form [name=filter]", "tail/#");
    await page.click("#tail-start");
    await waitText(page, "#tail-state", "Live");
    await load.publisher.publishAsync("tail/one", "first", { qos: 1 });
    await waitText(page, "#tail", "first");
    await load.publisher.publishAsync("elsewhere", "not asked for", { qos: 1 });
    await page.click("#tail-pause");
    await load.publisher.publishAsync("tail/two", "second", { qos: 2 });
    await waitText(page, "#tail-state", "1 of them since the pause");
    assert.strictEqual(await page.locator("#tail li").count(), 1);
    await page.click("#tail-pause");
    await waitText(page, "#tail li:first-child", "second");
    assert.match(await text(page, "#tail li:first-child"), /tail\/two\s+QoS 2/);
    assert.ok(!(await text(page, "#tail")).includes("not asked for"));
  });
  await check("Tail: the list is bounded", async () => {
    for (let i = 0; i < 700; i += 1) await load.publisher.publishAsync("tail/many", `${i}`, { qos: 1 });
    await waitText(page, "#tail li:first-child", "699");
    assert.strictEqual(await page.locator("#tail li").count(), 300);
    await page.click("#tail-start");
    await waitText(page, "#tail-state", "Stopped");
  });
  await check("Explain: a delivery and a permission", async () => {
    await show(page, "explain");
    const ask = async (clientId, topic) => {
      await page.fill("#explain-form [name=clientId]", clientId);
      await page.fill("#explain-form [name=topic]", topic);
      await page.click("#explain-form button");
    };
    await ask("reader", "load/x");
    await waitText(page, "#answer", "would reach the Session");
    await ask("reader", "other/x");
    await waitText(page, "#answer", "✗ no");
    await waitText(page, "#explanation li", "no subscription matches");
    await page.selectOption("#explain-form [name=kind]", "access");
    await page.selectOption("#explain-form [name=action]", "publish");
    await ask("reader", "load/x");
    await waitText(page, "#answer", "may publish");
    await page.selectOption("#explain-form [name=kind]", "delivery");
  });
}

async function checkOperation(page, get, broker, url) {
  await check("Listeners: Stop stops, and Start starts", async () => {
    await show(page, "listeners");
    const second = () => get("/listeners").then((all) => all.find(({ name }) => name === "second"));
    const before = (await second()).endpoints[0];
    assert.ok(await accepts(before));
    await row(page, "listeners-table", "second").locator("button").click();
    await confirm(page);
    await until(async () => (await second()).state === "stopped", "the stop");
    assert.ok(!(await accepts(before)));
    await row(page, "listeners-table", "second").locator("button:text-is('Start')").click();
    await until(async () => (await second()).state === "running", "the start");
    assert.ok(await accepts((await second()).endpoints[0]));
    await waitText(page, "#listeners-table tbody", (await second()).endpoints[0]);
  });
  await check("Bans: Ban keeps a Client out, and Lift lets it in", async () => {
    await connect(url, "banned").then((client) => client.endAsync());
    await show(page, "bans");
    await page.fill("#ban-form [name=who]", "banned");
    await page.fill("#ban-form [name=reason]", `test ${MARKUP}`);
    await page.click("#ban-form button");
    await confirm(page);
    await row(page, "bans-table", "banned").waitFor();
    await assert.rejects(connect(url, "banned"));
    await row(page, "bans-table", "banned").locator("button").click();
    await confirm(page);
    await until(async () => (await get("/banned")).count === 0, "the lifting");
    await connect(url, "banned").then((client) => client.endAsync());
  });
  await check("Configuration: the settings are those of the interface", async () => {
    await show(page, "configuration");
    const { settings } = await get("/config");
    await page.waitForFunction(
      (count) => document.querySelectorAll("#configuration-table tbody tr").length === count,
      settings.length,
    );
    await page.check("#configuration-form [name=changed]");
    const own = settings.filter((setting) => !setting.default).length;
    await page.waitForFunction((count) => document.querySelectorAll("#configuration-table tbody tr").length === count, own);
    await page.uncheck("#configuration-form [name=changed]");
  });
  await check("Reload: the difference is told before, and is in force after", async () => {
    const config = JSON.parse(fs.readFileSync(broker.file, "utf8"));
    config.limits.maxInflight = 64;
    fs.writeFileSync(broker.file, JSON.stringify(config));
    const inForce = async () => (await get("/config")).settings.find(({ key }) => key === "limits.maxInflight").value;
    const old = await inForce();
    await page.click("#compare");
    await waitText(page, "#difference .differences", "maxInflight");
    assert.strictEqual(await inForce(), old, "a comparison changes nothing");
    await page.click("#reload");
    await confirm(page);
    await waitText(page, "#difference", "Reloaded");
    assert.match(String(await inForce()), /\b64\b/);
  });
  await check("Reload: a file with errors changes nothing and is told", async () => {
    const good = fs.readFileSync(broker.file, "utf8");
    fs.writeFileSync(broker.file, good.replace('"maxInflight":64', '"maxInflight":-1'));
    await page.click("#compare");
    await waitText(page, "#difference", "Nothing is changed");
    await waitText(page, "#difference .differences", "maxInflight");
    assert.ok(await page.isDisabled("#reload"));
    fs.writeFileSync(broker.file, good);
    page.faults = page.faults.filter((fault) => !/status of 422/.test(fault));
  });
  await check("Events: connects, disconnects and refusals with their reasons", async () => {
    await show(page, "events");
    await waitText(page, "#events-state", "Live");
    const client = await connect(url, "eventful");
    await client.endAsync();
    const line = (kind) =>
      page.locator("#events-list li", { hasText: "eventful" }).filter({ has: page.locator(`.badge:text-is("${kind}")`) });
    await line("connected").first().waitFor();
    await line("disconnected").first().waitFor();
    assert.match(await line("disconnected").first().innerText(), /DISCONNECT by the Client/);
    assert.strictEqual((await refusal(url))[3], 2);
    await page.locator("#events-list .badge:text-is('refused')").first().waitFor();
    await page.fill("#events-form [name=text]", "eventful");
    await page.waitForFunction(() =>
      [...document.querySelectorAll("#events-list li")].every((line) => line.textContent.includes("eventful")),
    );
    await page.fill("#events-form [name=text]", "");
  });
}

async function checkHostile(page, url, load) {
  await check("hostile texts are shown as texts and do nothing", async () => {
    const long = "l".repeat(65_000);
    await show(page, "messages");
    await page.fill("#tail-form [name=filter]", "#");
    await page.click("#tail-start");
    await waitText(page, "#tail-state", "Live");
    for (const [index, hostile] of HOSTILE.entries()) {
      const client = await connect(url, hostile, {
        username: hostile,
        clean: false,
        properties: { sessionExpiryInterval: 600 },
      });
      await client.subscribeAsync(`${hostile}/${index}`, { qos: 1 });
      await client.endAsync();
      await load.publisher.publishAsync(`${hostile}/${index}`, hostile, { qos: 1, retain: true });
    }
    await load.publisher.publishAsync(long, MARKUP, { qos: 1, retain: true });
    await page.locator("#tail li", { hasText: "all 65,000 characters" }).waitFor();
    for (const section of [...SECTIONS, `clients/${encodeURIComponent(MARKUP)}`]) {
      await show(page, section);
      await pause(300);
      assert.deepStrictEqual(await page.evaluate(injected), [], section);
    }
    await waitText(page, "#client-title", MARKUP);
    await waitText(page, "#client-queue tbody", `${MARKUP}/0`);
    await page.click("#client-close");
    await show(page, "retained");
    await page.fill("#retained-form [name=filter]", "#");
    await waitText(page, "#retained-table tbody", MARKUP);
    const table = await text(page, "#retained-table");
    for (const part of ["<script>alert(2)</script>", "U+202E", "U+200B", "${alert(3)}"]) assert.ok(table.includes(part), part);
    assert.ok(!/[\u202e\u200b]/.test(table));
    await row(page, "retained-table", "all 65,000 characters").locator("button.more").click();
    assert.strictEqual((await page.locator("#whole-text").textContent()).length, 65_000);
    await page.click("#whole-close");
    await show(page, "messages");
    await page.click("#tail-start");
  });
  await check("a message of binary bytes and lost messages are told", async () => {
    const event = (name, data) => `event: ${name}\r\ndata: ${JSON.stringify(data)}\r\n\r\n`;
    const message = {
      at: "2026-01-02T03:04:05Z",
      topic: "t\n\u0000",
      qos: 0,
      retain: true,
      payload: null,
      payloadBase64: "AP8=",
      payloadBytes: 2,
    };
    await page.route("**/api/v1/tail*", (route) =>
      route.fulfill({
        contentType: "text/event-stream",
        body: `:\r\n\r\n${event("message", message)}${event("lost", { messages: 1234 })}`,
      }),
    );
    await page.click("#tail-clear");
    await page.click("#tail-start");
    await waitText(page, "#tail", "00 ff");
    assert.match(await text(page, "#tail li:first-child"), /t\s*U\+000A\s*U\+0000/);
    assert.strictEqual(await page.locator("#tail time").first().getAttribute("title"), "2026-01-02T03:04:05.000Z (UTC)");
    await waitText(page, "#tail-lost", "1,234 messages were left out");
    await page.click("#tail-start");
    await page.unroute("**/api/v1/tail*");
  });
  await check("books that do not balance are told", async () => {
    const status = await page.evaluate(() => fetch("api/v1/status").then((answer) => answer.json()));
    const ledger = {
      ...status.ledger,
      offered: 9_007_199_254_740_000,
      delivered: 9_007_199_254_739_000,
      waiting: 0,
      inflight: 0,
    };
    await page.route("**/api/v1/live", (route) =>
      route.fulfill({
        contentType: "text/event-stream",
        body: `event: status\ndata: ${JSON.stringify({ ...status, ledger })}\n\n`,
      }),
    );
    await page.goto("about:blank");
    await page.goto(page.home);
    await waitText(page, "#books .verdict", "do not balance");
    assert.strictEqual(await text(page, '#books [data-term="offered"] .value'), "9,007,199,254,740,000");
    await page.unroute("**/api/v1/live");
    await live(page);
    await waitText(page, "#books .verdict", "The books balance");
  });
}

async function checkLooks(browser, url) {
  for (const [width, colorScheme] of [
    [400, "light"],
    [400, "dark"],
    [1600, "light"],
    [1600, "dark"],
  ]) {
    await check(`${width} pixels, ${colorScheme}: nothing overflows, texts have contrast, controls have names`, async () => {
      const page = await open(browser, url, { viewport: { width, height: 900 }, colorScheme });
      await live(page);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      for (const section of [...SECTIONS, "clients/away"]) {
        await show(page, section);
        if (section === "clients/away") await page.waitForSelector("#client-queue tbody tr");
        await pause(400);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        assert.ok(over <= 0, `${section} is ${over} pixels too wide`);
        assert.deepStrictEqual(await page.evaluate(audit), [], section);
      }
      await show(page, "overview");
      const other = colorScheme === "light" ? "dark" : "light";
      await page.selectOption("#theme", other);
      assert.notStrictEqual(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), background);
      await page.reload();
      assert.strictEqual(await page.inputValue("#theme"), other);
      assert.deepStrictEqual(page.faults, []);
      await page.context().close();
    });
  }
  await check("the keyboard alone opens, reads and closes a Client", async () => {
    const page = await open(browser, url);
    await live(page);
    await page.keyboard.press("Tab");
    assert.strictEqual(await page.evaluate(() => document.activeElement.className), "skip");
    await page.keyboard.press("Enter");
    assert.strictEqual(await page.evaluate(() => document.activeElement.id), "main");
    await page.focus('nav a[href="#/clients"]');
    await page.keyboard.press("Enter");
    await page.locator("#clients-table a:text-is('away')").focus();
    await page.keyboard.press("Enter");
    await page.waitForSelector("#client[open]");
    assert.ok(await page.evaluate(() => document.getElementById("client").contains(document.activeElement)));
    await page.keyboard.press("Escape");
    await page.waitForSelector("#client", { state: "hidden" });
    assert.strictEqual(await page.evaluate(() => document.activeElement.textContent), "away");
    await page.context().close();
  });
}

async function checkTokenAndReconnect(browser) {
  const token = "0123456789abcdef0123456789abcdef";
  const tokenFile = path.join(dir, "token");
  fs.writeFileSync(tokenFile, `${token}\n`, { mode: 0o600 });
  const config = (port) => ({
    listeners: { tcp: { url: "tcp://127.0.0.1:0" } },
    admin: { url: `http://127.0.0.1:${port}`, tokenFile },
  });
  let broker = await start("token", config(0));
  const page = await open(browser, broker.admin);
  await check("the token is asked for once, and a wrong one is told", async () => {
    await page.waitForSelector("#token[open]");
    await page.fill("#token [name=token]", "wrong-wrong-wrong-wrong");
    await page.keyboard.press("Enter");
    await waitText(page, "#token-why", "does not accept");
    await page.fill("#token [name=token]", token);
    await page.keyboard.press("Enter");
    await live(page);
    await show(page, "clients");
    await waitText(page, "#clients-count", "0 Clients");
    await page.reload();
    await live(page);
    assert.ok(!(await page.isVisible("#token")));
  });
  await check("the page says that the server is gone, and comes back by itself", async () => {
    await show(page, "overview");
    await stop(broker);
    await page.waitForSelector("#down:not([hidden])");
    assert.strictEqual(await text(page, "#connection"), "Not connected");
    assert.match(await text(page, "#down"), /Not connected to the server\..*Next attempt in \d+ s/s);
    broker = await start("token", config(new URL(broker.admin).port));
    await live(page);
    assert.ok(!(await page.isVisible("#down")));
  });
  await page.context().close();
  await stop(broker);
}

// ---- Pictures --------------------------------------------------------------------------------------------------------

// A load that goes up and down, with a consumer that is too slow.
async function busy(url, seconds) {
  const load = await makeLoad(url);
  const sensors = await Promise.all(
    Array.from({ length: 24 }, (_, i) =>
      connect(url, `sensor-${String(i + 1).padStart(2, "0")}`, { protocolVersion: [4, 5][i % 2] }),
    ),
  );
  const hall = await connect(url, "dashboard-hall", {
    properties: { receiveMaximum: 20 },
    customHandleAcks: (topic, message, packet, done) => setTimeout(() => done(0), 900),
  });
  await hall.subscribeAsync("plant/1/#", { qos: 1 });
  const history = await connect(url, "historian", { username: "ann" });
  await history.subscribeAsync("plant/#", { qos: 1 });
  const archive = await connect(url, "archive", { username: "ann" });
  await archive.subscribeAsync("plant/#", { qos: 0 });
  const end = Date.now() + seconds * 1000;
  for (let turn = 0; Date.now() < end; turn += 1) {
    const many = 13 + 9 * Math.sin(turn / 130);
    sensors
      .slice(0, many)
      .forEach((sensor, i) =>
        sensor.publish(`plant/${i % 4}/temperature`, `{"celsius": ${(20 + Math.random() * 5).toFixed(1)}}`, {
          qos: i % 2,
          retain: turn % 50 === 0,
        }),
      );
    await pause(100);
  }
  return load;
}

async function pictures(browser, broker) {
  const images = path.join(__dirname, "..", "docs", "images");
  fs.mkdirSync(images, { recursive: true });
  const loading = busy(broker.listeners.tcp, 290);
  await pause(270_000);
  for (const [name, width, height, colorScheme] of [
    ["light", 1600, 1400, "light"],
    ["dark", 1600, 1400, "dark"],
    ["phone", 400, 860, "light"],
  ]) {
    const page = await open(browser, broker.admin, { viewport: { width, height }, colorScheme });
    await live(page);
    await page.selectOption("#span", "300");
    await pause(3000);
    await page.screenshot({ path: path.join(images, `page-${name}.png`) });
    console.log(`wrote docs/images/page-${name}.png`);
    await page.context().close();
  }
  await loading;
}

// ----------------------------------------------------------------------------------------------------------------------

async function main() {
  fs.mkdirSync(dir, { recursive: true });
  fs.writeFileSync(path.join(dir, "bans.json"), JSON.stringify({ bans: [] }));
  const broker = await start("broker", {
    maxQueueDepth: 100,
    // Topics below $SYS are messages, too: the load is counted without them.
    sysIntervalSecs: 0,
    listeners: { tcp: { url: "tcp://127.0.0.1:0" }, second: { url: "tcp://127.0.0.1:0" } },
    admin: { url: "http://127.0.0.1:0" },
    access: { anonymous: true, bansFile: path.join(dir, "bans.json") },
    limits: { connectionsMax: 500, maxInflight: 128 },
  });
  const browser = await launch();
  if (mode === "screenshots") {
    await pictures(browser, broker);
  } else {
    const url = broker.listeners.tcp;
    const get = async (path) => {
      const answer = await fetch(`${broker.admin}/api/v1${path}`);
      assert.ok(answer.ok, `${path}: ${answer.status}`);
      return answer.json();
    };
    const page = await open(browser, broker.admin);
    page.home = broker.admin;
    await live(page);
    const load = await makeLoad(url);
    await checkFigures(page, get);
    await checkClients(page, get, url, load);
    await checkLists(page, get, url, load);
    await checkMessages(page, load);
    await checkOperation(page, get, broker, url);
    await checkLooks(browser, broker.admin);
    await checkHostile(page, url, load);
    await checkTokenAndReconnect(browser);
    await check("no dialog, no error in the console, no request to another origin", () =>
      assert.deepStrictEqual(page.faults, []),
    );
  }
  await browser.close();
  clients.forEach((client) => client.end(true));
  await check("the program ends in good order", async () => assert.strictEqual(await stop(broker), 0));
  process.exit(failed ? 1 : 0);
}

main().catch((e) => {
  console.log(`failed ${NAME}: ${e.stack}`);
  process.exit(1);
});
