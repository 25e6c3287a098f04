//! Runs `token_answer` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pullthrough::fuzzing::token_answer(data));
