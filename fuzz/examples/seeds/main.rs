//! Makes the seeds in `corpus/`: what the raw client of the conformance suite sends in each case, cut into packets,
//! and edge cases made by hand. `cargo run --package hrotti-fuzz --example seeds`
//!
//! Files of other names are left alone: they are what fuzzing found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use self::record::{Recorded, Stream, record};

mod access;
mod hand;
mod record;

/// Longer packets and streams are cut: they cover nothing else, and the corpus is to stay small.
const BYTES_MAX: usize = 400;
/// Seeds made of cases for one target.
const FILES_MAX: usize = 60;

/// A seed and the case that it comes from, by its shape: one of each is kept.
type Shapes = BTreeMap<Vec<u8>, (String, Vec<u8>)>;

/// The seeds of each target.
#[derive(Default)]
struct Seeds(BTreeMap<&'static str, Shapes>);

impl Seeds {
    fn add(&mut self, target: &'static str, case: &str, seed: &[u8]) {
        let seed = &seed[..seed.len().min(BYTES_MAX)];
        let found = self.0.entry(target).or_default();
        let kept = found.entry(shape(seed)).or_insert_with(|| (case.to_owned(), seed.to_vec()));
        if seed.len() < kept.1.len() {
            *kept = (case.to_owned(), seed.to_vec());
        }
    }
}

/// Bytes with names, numbers and payloads of any text made equal.
fn shape(bytes: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| if byte.is_ascii_alphanumeric() { b'a' } else { *byte };
    let mut shape: Vec<u8> = bytes.iter().map(plain).collect();
    shape.dedup();
    shape
}

fn main() -> io::Result<()> {
    let mut seeds = Seeds::default();
    for Recorded { case, streams } in record() {
        for stream in &streams {
            seeds_of(&mut seeds, &case, stream);
        }
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files = 0;
    for (target, found) in seeds.0 {
        let directory = corpus.join(target);
        clean(&directory)?;
        for (number, (case, seed)) in thinned(found).into_iter().enumerate() {
            fs::write(directory.join(format!("case-{number:02}-{case}")), seed)?;
            files += 1;
        }
    }
    for (target, made) in hand::all() {
        let directory = corpus.join(target);
        fs::create_dir_all(&directory)?;
        for (number, seed) in made.into_iter().enumerate() {
            fs::write(directory.join(format!("hand-{number:02}")), seed)?;
            files += 1;
        }
    }
    println!("{files} seeds are in {}", corpus.display());
    Ok(())
}

/// Removes what an earlier run made.
fn clean(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("case-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// At most so many, evenly out of all shapes, which stand in the order of their bytes.
fn thinned(found: Shapes) -> Vec<(String, Vec<u8>)> {
    let all: Vec<_> = found.into_values().collect();
    let step = all.len().div_ceil(FILES_MAX).max(1);
    all.into_iter().step_by(step).collect()
}

fn seeds_of(seeds: &mut Seeds, case: &str, stream: &Stream) {
    let bytes = &stream.bytes;
    if stream.ws {
        seeds.add("ws_upgrade", case, &[&[0, 255, 255, 255, 255], &bytes[..]].concat());
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            seeds.add("ws_frame", case, &[&[255, 1, 7, 255], &bytes[at + 4..]].concat());
        }
        return;
    }
    seeds.add("first_bytes", case, &bytes[..bytes.len().min(24)]);
    seeds.add("frame", case, &[&[0, 200, 1, 3, 50], &bytes[..]].concat());
    let packets = packets(bytes);
    let level = packets.first().and_then(|packet| level(packet));
    let decoder = match level {
        Some(3) => "decode_v3_1",
        Some(4) => "decode_v3_1_1",
        _ => "decode_v5",
    };
    // Limits, then each packet, and a batch that is taken whole.
    let mut session = vec![7, 0, 0, 3, 3, 2, 2, 0, 0];
    let mut texts = BTreeSet::new();
    for packet in packets {
        let digits = packet[1..].iter().take_while(|byte| **byte > 127).count() + 1;
        let body = [&packet[..1], &packet[1 + digits..]].concat();
        seeds.add(if packet[0] >> 4 == 1 { "connect" } else { decoder }, case, &body);
        for piece in packet.chunks(255) {
            session.extend([0, u8::try_from(piece.len()).unwrap_or(u8::MAX)]);
            session.extend_from_slice(piece);
        }
        session.extend([9, 255, 1, 11, 0]);
        texts.extend(text(packet));
    }
    seeds.add("session", case, &session);
    let mut texts = texts.into_iter();
    while let Some(one) = texts.next() {
        let other = texts.next().unwrap_or_default();
        seeds.add("topic", case, format!("{one}\n{other}").as_bytes());
    }
}

/// The protocol level of a CONNECT.
fn level(packet: &[u8]) -> Option<u8> {
    let at = packet.windows(4).position(|window| matches!(window, b"MQTT" | b"sdp\x03"))?;
    packet.get(at + if packet[at] == b'M' { 4 } else { 3 }).copied()
}

/// The whole packets of a stream.
fn packets(bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while rest.len() > 1 {
        let digits = rest[1..].iter().take(4).take_while(|byte| **byte > 127).count() + 1;
        let Some(length) = rest.get(1..=digits) else { break };
        let length = length.iter().rev().fold(0, |n, byte| n * 128 + usize::from(byte & 127));
        let Some(packet) = rest.get(..1 + digits + length) else { break };
        found.push(packet);
        rest = &rest[packet.len()..];
    }
    found
}

/// The Topic Name of a PUBLISH, the first Topic Filter of a SUBSCRIBE without properties.
fn text(packet: &[u8]) -> Option<String> {
    let at = match packet[0] >> 4 {
        3 => 2,
        8 if packet.get(4) == Some(&0) && packet.get(5) == Some(&0) => 5,
        8 => 4,
        _ => return None,
    };
    let length = usize::from(packet.get(at + 1).copied()?);
    String::from_utf8(packet.get(at + 2..at + 2 + length)?.to_vec()).ok()
}
