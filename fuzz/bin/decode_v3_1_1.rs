//! `decode_v3_1_1` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hrotti_fuzz::targets::decode_v3_1_1(data));
