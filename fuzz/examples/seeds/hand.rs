//! Edge cases made by hand, by target.

use std::path::Path;

use crate::access;

/// Each target with its seeds.
pub(crate) fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut all = vec![
        ("config", config()),
        ("connect", connect()),
        ("decode_v5", bytes(DECODE_V5)),
        ("decode_v3_1", bytes(DECODE_V3)),
        ("decode_v3_1_1", bytes(DECODE_V3)),
        ("first_bytes", bytes(FIRST_BYTES)),
        ("forwarded", bytes(FORWARDED)),
        ("frame", bytes(FRAME)),
        ("listener_url", texts(LISTENER_URL)),
        ("proxy_header", bytes(PROXY_HEADER)),
        ("retained", scripts(3)),
        ("session", sessions()),
        ("share", scripts(0)),
        ("state", states()),
        ("topic", texts(TOPIC)),
        ("tree", scripts(1)),
        ("ws_frame", bytes(WS_FRAME)),
        ("ws_upgrade", ws_upgrade()),
    ];
    all.extend(access::all());
    all
}

fn bytes(seeds: &[&[u8]]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.to_vec()).collect()
}

pub(crate) fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

/// Choices without a meaning: rising, of one kind, and without a pattern.
fn scripts(head: usize) -> Vec<Vec<u8>> {
    let rising = |step: usize| -> Vec<u8> {
        (0..120).map(|n| u8::try_from(n * step % 256).unwrap_or_default()).collect()
    };
    [1, 3, 7, 11, 29, 61].map(|step| [vec![200; head], rising(step)].concat()).to_vec()
}

/// A record of a state.
fn record(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u64::try_from(body.len()).unwrap_or_default().to_be_bytes();
    [&[tag][..], &length, &body].concat()
}

/// States: nothing, retained messages, a Session with everything.
fn states() -> Vec<Vec<u8>> {
    let begin = b"hrottist\x00\x01".to_vec();
    let number = |number: u64| number.to_be_bytes();
    let end = |sessions, messages, retained| {
        record(10, &[&number(sessions), &number(messages), &number(retained)])
    };
    let (once, never) = (number(1 << 41), number(u64::MAX));
    let text = |text: &'static [u8]| [&[0, 0, 0, text.len().to_be_bytes()[7]], text].concat();
    let plain = record(1, &[&[5, 0], &text(b"a/b"), &text(b""), b"kept"]);
    let rich = record(
        1,
        &[&[2, 1, 0, 0, 0, 9], &once, &text(b"a"), &text(b"\x01\x01\x26\0\x01k\0\x01v"), b""],
    );
    let session = record(
        3,
        &[
            &text(b"client"),
            &[2],
            &text(b"ann"),
            &[1],
            &text(b"site/"),
            &[0, 0, 0, 60],
            &once,
            &[1, 0, 0, 0, 1],
            &never,
            &[0, 1, 0, 7],
        ],
    );
    let parts = [
        record(4, &[&text(b"a/+"), &[0x26, 0, 0, 0, 3]]),
        record(4, &[&text(b"$share/g/a"), &[1, 0, 0, 0, 0]]),
        record(5, &[&text(b"a/+"), &[1], &text(b"a/a")]),
        record(6, &[&text(b"$share/g/a")]),
        record(7, &[&[0, 0, 0, 0], &number(3), &number(3), &number(2)]),
        record(8, &[&number(1)]),
        record(8, &[&number(2), &[0, 0, 0, 0, 1, 0, 0, 0, 0]]),
        record(8, &[&number(3), &[0, 0, 0, 1, 6, 0, 0, 0, 1]]),
        record(9, &[&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]]),
    ]
    .concat();
    let retained = record(2, &[&[0, 0, 0, 0]]);
    vec![
        [&begin[..], &end(0, 0, 0)].concat(),
        [&begin[..], &plain, &retained, &end(0, 1, 1)].concat(),
        [&begin[..], &plain, &rich, &session, &parts, &end(1, 2, 0)].concat(),
        [&begin[..], &[1, 255, 255, 255, 255, 255, 255, 255, 255, 0]].concat(),
        [&begin[..], &plain, &[2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 9]].concat(),
    ]
}

/// Sessions out of packets that are likely: CONNECT first, then rising choices.
fn sessions() -> Vec<Vec<u8>> {
    let limits = [7, 0, 0, 3, 3, 2, 2, 0, 0];
    let versions = 0..3_u8;
    let scripts = scripts(0);
    let all = versions.flat_map(|version| {
        scripts.iter().map(move |script| {
            let connect = [1, 0, version, 2, 60, 2, 4, 3, 1, 0, 0];
            [&limits[..], &connect, script].concat()
        })
    });
    all.collect()
}

fn config() -> Vec<Vec<u8>> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config.json");
    let example = std::fs::read(example).unwrap_or_default();
    let mut seeds = texts(CONFIG);
    seeds.push(example);
    seeds
}

const CONFIG: &[&str] = &[
    "",
    " ",
    "\u{feff}{}",
    "{}",
    "[]",
    "null",
    "{\"listeners\": {}}",
    "{\"listeners\": {\"tcp\": {}}}",
    "{\"listeners\": {\"tcp\": {\"url\": \"tcp://0.0.0.0:1883\"}}}",
    "{\"listeners\": {\"a\": {\"url\": \"tcp://0.0.0.0\"}, \"b\": {\"url\": \"tcp://127.0.0.1:1883\"}}}",
    "{\"listeners\": {\"a\": {\"url\": \"ws://[::1]:0/mqtt\", \"origins\": [\"https://example.org\", \"null\"]}}}",
    "{\"maxQueueDepth\": 1, \"workers\": 256, \"listeners\": {\"\u{e9} \\\"x\": {\"url\": \"tcp://h:0\"}}, \"logging\": {\"info\": \"stderr\", \"protocol\": \"discard\", \"error\": \"stdout\", \"debug\": \"stderr\"}, \"limits\": {\"topicLevelsMax\": 65536, \"stopTimeoutSecs\": 0, \"sessionExpirySecsMax\": 4294967295}}",
    "{\"maxQueueDepth\": 0, \"workers\": 1e3, \"listners\": {}, \"limits\": {\"topicLevelsMax\": \"3\", \"url\": -1}}",
    "{\"limits\": 3, \"limits\": {\"a.b\": null, \"\": [1, 2], \"\\n\": true}}",
    "{\"listeners\": {\"\": {\"url\": 1}, \"\\n\": {}, \"a\": {\"url\": \"http://x\", \"origins\": []}}}",
    "{\"a\": [[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],}",
    "{\"maxQueueDepth\": 1.5, \"workers\": 18446744073709551616}",
    "{'a': 1} // no",
];

const LISTENER_URL: &[&str] = &[
    "tcp://0.0.0.0:1883",
    "ws://localhost/mqtt\nhttps://example.org\nnull",
    "ws://[::1]:9001/a%20b/../c\nhttps://example.org:443",
    "tcp://user:password@host:1",
    "ws://user@host/p?q#f",
    "tcp://host/path",
    "tcp:host",
    "tcp://",
    "ws:///x",
    "mqtts://host:8883",
    "host:1883",
    "wss://host",
    "tcp://[fe80::1%25eth0]:1883",
    "tcp://\u{e9}xample.org",
    "WS://HOST:080/\u{e9}\nHTTPS://EXAMPLE.ORG",
    "tcp://0x7f.1:65535",
    "file:///etc/x",
    "ws://h\nmoz-extension://abc\nhttp://a b",
];

const TOPIC: &[&str] = &[
    "a/b/c\na/b/c",
    "#\na",
    "#\n$SYS/a",
    "+/a\n$SYS/a",
    "$SYS/#\n$SYS",
    "a/#\na",
    "a/+/#\na/b",
    "+\n/",
    "+/+\n/",
    "/+\n/a",
    "a+\na+",
    "a/#/b\na",
    "$share/g/a/#\na/b",
    "$share/g/$share/h/a\n$share/h/a",
    "$share//a\na",
    "$share/g\n$share/g",
    "$share/+/a\na",
    "$share/g/\na",
    "$shared/x\n$shared/x",
    "\u{0}\n\u{0}",
    "\u{10FFFF}/\u{FEFF}\n\u{10FFFF}/\u{FEFF}",
    "\n",
];

const FIRST_BYTES: &[&[u8]] = &[
    b"\x10\x0C\0\x04MQTT\x04\x02\0\0\0\0",
    b"\x10\x8C\x02\0\x04MQTT\x05\x02\0\0\0",
    b"\x1F\x0F\0\x06MQIsdp\x03\x03\0\0\0\x01c",
    b"\x16\x03\x01\x02\0\x01",
    b"GET / HTTP/1.1",
    b"PROXY TCP4",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"PRI * HTTP/2.0",
    b"\x10\xFF\xFF\xFF\xFF",
    b"\x10\x80\x00",
    b"\x50\x02\0\x01",
    b"\x10\x00",
];

const FRAME: &[&[u8]] = &[
    b"\x00\x01\x01\x01\x01\xC0\0\xC0\0\xE0\0",
    b"\x00\x02\x03\x05\x07\x30\x05\0\x01txy\x32\x07\0\x01t\0\x01xy\x62\x02\0\x01",
    b"\x00\xFF\xFF\xFF\xFF\x30\x80\x01",
    b"\x03\xFF\xFF\xFF\xFF\x30\xFF\xFF\xFF\x7F",
    b"\x03\xFF\xFF\xFF\xFF\x30\xFF\xFF\xFF\xFF\x01",
    b"\x00\x01\x01\x01\x01\x30\x80\x00",
    b"\x01\x01\x01\x01\x01\xC0\0\x30\x01\0",
    b"\x00\x01\x01\x01\x01\x36\x00",
    b"\x00\x01\x01\x01\x01\x00",
    b"\x00\x01\x01\x01\x01\x20\x02\0\0",
];

const DECODE_V5: &[&[u8]] = &[
    b"\x30\0\x01t\0payload",
    b"\x3D\0\x01t\0\x07\0",
    b"\x32\0\0\0\x01\x03\x23\0\x01",
    b"\x30\0\x01t\x1C\x01\x01\x02\0\0\0\x05\x03\0\x01c\x08\0\x01r\x23\0\x02\x09\0\x02\0\xFF\x26\0\x01n\0\x01v",
    b"\x30\0\x01t\x0E\x26\0\x01n\0\x01v\x26\0\x01n\0\x01w",
    b"\x30\0\x01t\x02\x0B\x01",
    b"\x30\0\x01t\x03\x23\0\0",
    b"\x30\0\x01t\x05\x08\0\x02a#",
    b"\x40\0\x01",
    b"\x40\0\x01\x10",
    b"\x50\0\x01\x97\x05\x1F\0\x02no",
    b"\x62\0\x01\x92\0",
    b"\x70\xFF\xFF\0",
    b"\x82\0\x01\0\0\x01a\x2E",
    b"\x82\0\x01\x05\x0B\xFF\xFF\xFF\x7F\0\x0A$share/g/a\x01\0\x01#\x3D",
    b"\x82\0\x01\x02\x0B\0\0\x01a\0",
    b"\x82\0\x01\0\0\x01a\0\0\x01b\x40",
    b"\xA2\0\x01\0\0\x01a\0\x02b",
    b"\xA2\0\x02\x07\x26\0\x01n\0\x01v\0\x03a/+",
    b"\xC0",
    b"\xE0",
    b"\xE0\x04\x05\x11\0\0\0\x05",
    b"\xE0\x8E",
    b"\xF0\x18\x05\x15\0\x02me",
    b"\xF0\x19\x08\x15\0\x01m\x16\0\x01d",
    b"\x10\0\x04MQTT\x05\x02\0\0\0\0\0",
];

const DECODE_V3: &[&[u8]] = &[
    b"\x30\0\x01tpayload",
    b"\x38\0\x01t",
    b"\x3D\0\x01t\0\x07",
    b"\x30\0\x00",
    b"\x40\0\x01",
    b"\x40\0\x01\0",
    b"\x50\0\0",
    b"\x62\xFF\xFF",
    b"\x6A\0\x01",
    b"\x7F\0\x01",
    b"\x82\0\x01\0\x01a\0\0\x01b\x02",
    b"\x82\0\x01\0\x01a\x03",
    b"\x82\0\x01",
    b"\x8A\0\x01\0\x01#\x01",
    b"\xA2\0\x01\0\x03a/b\0\x01#",
    b"\xA2\0\x01",
    b"\xC0",
    b"\xC1\0",
    b"\xE0",
    b"\xE0\0",
    b"\xF0",
];

fn connect() -> Vec<Vec<u8>> {
    let mut seeds = bytes(CONNECT);
    // Every flag alone and some together, in each version.
    for (start, rest) in [
        (&b"\x10\0\x06MQIsdp\x03"[..], &b""[..]),
        (b"\x10\0\x04MQTT\x04", b""),
        (b"\x10\0\x04MQTT\x05", b"\0"),
    ] {
        for flags in [0x00_u8, 0x02, 0x26, 0xC6, 0xEE, 0x82, 0x40] {
            let will: &[u8] = if rest.is_empty() { b"" } else { b"\0" };
            let will =
                if flags & 4 == 0 { Vec::new() } else { [will, b"\0\x01w\0\x02go"].concat() };
            let names = usize::from(flags >> 7) + usize::from(flags >> 6 & 1);
            seeds.push(
                [start, &[flags, 0, 60], rest, b"\0\x01c", &will, &b"\0\x01x\0\x01y"[..3 * names]]
                    .concat(),
            );
        }
    }
    seeds
}

const CONNECT: &[&[u8]] = &[
    b"\x10\0\x04MQTT\x06\x02\0\0\0\0",
    b"\x10\0\x04MQTT\x84\x02\0\0\0\x01b",
    b"\x1A\0\x06MQIsdp\x83\x03\0\0\0\x01b",
    b"\x10\0\x04MQTT\x85\x02\0\0\0\0\0",
    b"\x10\0\x04MQTT\x05\x02\0\x0A\x1C\x11\xFF\xFF\xFF\xFF\x21\0\x01\x27\0\0\0\x20\x22\0\x05\x19\x01\x17\0\x15\0\x01m\x16\0\x01d\0\0",
    b"\x10\0\x04MQTT\x05\x04\0\0\0\0\x01c\x0F\x18\0\0\0\x05\x02\0\0\0\x09\x01\x01\x03\0\x00\0\x01w\0\0",
    b"\x10\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\0",
    b"\x10\0\x04MQTT\x05\x02\0\0\x05\x27\0\0\0\0\0\0",
    b"\x10\0\x04MQTT\x04\x01\0\0\0\0",
    b"\x10\0\x04MQTT\x04\x1E\0\0\0\0\0\x01w\0\0",
    b"\x10\0\x04mqtt\x04\x02\0\0\0\0",
    b"\x10",
];

const WS_FRAME: &[&[u8]] = &[
    b"\xFF\xFF\xFF\xFF\x82\x82\0\0\0\0\xC0\0",
    b"\x01\x02\x03\x04\x02\x81\x01\x02\x03\x04\x11\x89\x80\0\0\0\0\x80\x81\x05\x06\x07\x08\x05",
    b"\xFF\xFF\xFF\xFF\x82\xFE\0\x03\x01\x02\x03\x04abc",
    b"\xFF\xFF\xFF\xFF\x82\xFF\0\0\0\0\0\0\0\x01\x01\x02\x03\x04a\x88\x82\0\0\0\0\x03\xE8",
    b"\xFF\xFF\xFF\xFF\x82\xFF\x80\0\0\0\0\0\0\0\0\0\0\0",
    b"\xFF\xFF\xFF\xFF\x88\x80\0\0\0\0",
    b"\xFF\xFF\xFF\xFF\x88\x81\0\0\0\0\x03",
    b"\xFF\xFF\xFF\xFF\x88\x83\0\0\0\0\x03\xE8\xFF",
    b"\xFF\xFF\xFF\xFF\x81\x81\0\0\0\0a",
    b"\xFF\xFF\xFF\xFF\x82\x01a",
    b"\xFF\xFF\xFF\xFF\xC2\x81\0\0\0\0a",
    b"\xFF\xFF\xFF\xFF\x80\x81\0\0\0\0a",
    b"\xFF\xFF\xFF\xFF\x09\x80\0\0\0\0",
    b"\xFF\xFF\xFF\xFF\x89\xFE\0\x7E\0\0\0\0",
    b"\xFF\xFF\xFF\xFF\x83\x80\0\0\0\0",
    b"\xFF\xFF\xFF\xFF\x8A\x84\x01\x02\x03\x04pong\x89\x84\x01\x02\x03\x04ping",
];

fn ws_upgrade() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..16_u8)
        .map(|choice| {
            let rest = b"\x82\x82\0\0\0\0\xC0\0\x88\x80\0\0\0\0";
            [&[choice | 8, 255, 1, 7, 255], &[choice; 14][..], rest].concat()
        })
        .collect();
    for request in UPGRADES {
        seeds.push([&[0, 255, 255, 255, 255], request.as_bytes()].concat());
        seeds.push([&[4, 1, 5, 255, 90], request.as_bytes()].concat());
    }
    seeds
}

const UPGRADES: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n\u{82}",
    "GET /?a HTTP/1.1\r\nconnection: a,\r\nConnection: upgrade\r\nUpgrade: x, WebSocket\r\n\
     Sec-WebSocket-Version: 8, 13\r\nSec-WebSocket-Key: k\r\nOrigin: HTTPS://example.org:443\r\n\r\n",
    "POST / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET /other HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Key: b\r\n\r\n",
    "GET * HTTP/1.1\r\n\r\n",
    "GET http://h/ HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: k\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
    "\u{10}\u{c}\u{0}\u{4}MQTT",
    "GET / HTTP/1.1\r\nX",
];

const PROXY_HEADER: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 1883\r\nMQTT",
    b"PROXY TCP6 2001:db8::7 ::1 65535 1\r\n",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN ffff::f x\r\n",
    b"PROXY TCP4 192.0.2.7 192.0.2.1 50000\r\n",
    b"PROXY TCP4 1.2.3.4",
    b"PROXY UNKNOWN xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\xc3P\x07[\x10\x0c",
    b"\r\n\r\n\x00\r\nQUIT\n \x00\x00\x00",
    b"\r\n\r\n\x00\r\nQUIT\n!!\x00$\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\r\n\r\n\x00\r\nQUIT\n!1\x00\xd8/run/s\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x1e\xc0\x00\x02\x07\xc0\x00\x02\x01\xc3P\x07[\x04\x00\x01x \x00\x0b\x03\x00\x00\x00\x00\"\x00\x03ann",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0f\xc0\x00\x02\x07\xc0\x00\x02\x01\xc3P\x07[\x04\x00\x09",
    b"\r\n\r\n\x00\r\nQUIT\n!\x12\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\xc3P\x07[",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c\xc0\x00\x02\x07",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\xff\xff",
    b"\x10\x0c\x00\x04MQTT",
];

const FORWARDED: &[&[u8]] = &[
    b"192.0.2.1",
    b"203.0.113.9, 192.0.2.1, 10.1.1.1",
    b"[2001:db8::1]:443",
    b"unknown",
    b"192.0.2.1\n10.1.1.1",
    b":for=192.0.2.1;proto=https",
    b":for=\"[2001:db8::1]:4711\";by=10.1.1.1,for=10.2.2.2",
    b":for=\"192.0.2.66",
    b":for=192.0.2.1\n192.0.2.1",
    b":for=192.0.2.1\n192.0.2.2",
    b":for=unknown, for=10.1.1.1",
    b":for=a;x=\", for=\"[2001:db8::1]\"",
    b"",
    b",,",
];
