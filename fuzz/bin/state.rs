//! `state` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hrotti_fuzz::targets::state(data));
