//! Runs `proxy_header` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pullthrough::fuzzing::proxy_header(data));
