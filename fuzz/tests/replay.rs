//! Every file of the corpus through its target, with any compiler: what was found once stays found.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use hrotti_fuzz::targets::{TARGETS, Target};

/// The whole corpus stays small enough to be part of the repository.
const CORPUS_BYTES_MAX: u64 = 1024 * 1024;

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory of the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    let name = path.file_stem().and_then(|name| name.to_str());
    name.expect("a name in UTF-8").to_owned()
}

fn replay(target: Target, path: &Path) -> bool {
    let data = fs::read(path).expect("a file of the corpus");
    catch_unwind(|| target(&data)).is_ok()
}

#[test]
fn the_corpus_replays() {
    let mut broken = Vec::new();
    for (target_name, target) in TARGETS {
        let files = entries(&package().join("corpus").join(target_name));
        assert!(files.len() > 1, "{target_name} has a corpus of {} files", files.len());
        broken.extend(files.into_iter().filter(|file| !replay(*target, file)));
    }
    assert!(broken.is_empty(), "these inputs break a rule: {broken:#?}");
}

#[test]
fn every_target_has_a_binary_and_a_corpus_of_its_own() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    for directory in ["corpus", "bin"] {
        let found: BTreeSet<String> =
            entries(&package().join(directory)).iter().map(|path| name(path)).collect();
        assert_eq!(found, targets, "{directory}/");
    }
    for (target, _) in TARGETS {
        let path = package().join("bin").join(format!("{target}.rs"));
        let text = fs::read_to_string(path).expect("a binary");
        assert!(text.contains(&format!("targets::{target}(data)")), "{target}: {text}");
    }
}

#[test]
fn the_corpus_is_small() {
    let directories = entries(&package().join("corpus"));
    let files = directories.iter().flat_map(|directory| entries(directory));
    let bytes: u64 = files.map(|file| file.metadata().expect("a file").len()).sum();
    assert!(bytes < CORPUS_BYTES_MAX, "{bytes} bytes");
}

/// Bytes without a pattern: a little of what libFuzzer does, with any compiler.
#[test]
fn no_target_is_upset_by_noise() {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33).to_le_bytes()
    };
    for round in 0..200 {
        let data: Vec<u8> = (0..round).flat_map(|_| next()).take(round).collect();
        for (target_name, target) in TARGETS {
            let fine = catch_unwind(|| target(&data)).is_ok();
            assert!(fine, "{target_name} with {data:02X?}");
        }
    }
}
