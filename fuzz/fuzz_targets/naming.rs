//! Runs `naming` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pullthrough::fuzzing::naming(data));
