//! What checking costs: hot reads of 256 KiB, checked against unchecked, alone and with the TLS that follows.
//!
//! `cargo bench --bench store` prints ratios; nothing is asserted. The rounds alternate, and the best of each counts, so
//! that a busy machine does not decide.
#![allow(clippy::unwrap_used, reason = "a benchmark ends where it fails")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use pullthrough::host::{Percent, Size};
use pullthrough::oci::{Algorithm, Digest};
use pullthrough::store::{Config, Store};

const LENGTH: usize = 64 << 20;
const CHUNK: usize = 256 << 10;
const RECORD: usize = 16 << 10;
const ROUNDS: usize = 20;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { dir: folder.path().join("cache"), max_size: Some(Size(1 << 30)), min_free: Percent(0) };
    let store = Store::open(&config).unwrap();
    let content: Vec<u8> = (0..LENGTH).map(|at| ((at * 31) >> 5) as u8).collect();
    let digest = Digest::of(Algorithm::Sha256, &content);
    let blob = store.put(&digest, &content).unwrap();
    let plain = File::open(config.dir.join("blobs/sha256").join(digest.hex())).unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap());
    let mut buffer = vec![0; CHUNK];
    let mut checked = |at: usize, buffer: &mut [u8]| blob.try_read_at(at as u64, buffer).unwrap().unwrap();
    let mut unchecked = |at: usize, buffer: &mut [u8]| plain.read_at(buffer, at as u64).unwrap();
    let seal = |buffer: &mut [u8]| {
        for record in buffer.chunks_mut(RECORD) {
            let nonce = Nonce::assume_unique_for_key([1; 12]);
            let _ = std::hint::black_box(key.seal_in_place_separate_tag(nonce, Aad::empty(), record).unwrap());
        }
    };
    let (mut plain_best, mut checked_best) = (Duration::MAX, Duration::MAX);
    let (mut plain_tls, mut checked_tls) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        plain_best = plain_best.min(round(&mut buffer, &mut unchecked, &|_| {}));
        checked_best = checked_best.min(round(&mut buffer, &mut checked, &|_| {}));
        plain_tls = plain_tls.min(round(&mut buffer, &mut unchecked, &seal));
        checked_tls = checked_tls.min(round(&mut buffer, &mut checked, &seal));
    }
    say("read", plain_best, checked_best);
    say("read and encrypt (AES-128-GCM)", plain_tls, checked_tls);
    let cost = (checked_best.saturating_sub(plain_best)).as_secs_f64() / LENGTH as f64 * 1e9;
    println!("checking costs {cost:.4} CPU s/GB; of the budget of 0.43 s/GB of a hot blob {:.1}%", cost / 0.43 * 100.0);
}

fn round(buffer: &mut [u8], read: &mut dyn FnMut(usize, &mut [u8]) -> usize, then: &dyn Fn(&mut [u8])) -> Duration {
    let began = Instant::now();
    let mut at = 0;
    while at < LENGTH {
        let count = read(at, buffer);
        then(&mut buffer[..count]);
        at += count;
    }
    began.elapsed()
}

fn say(what: &str, plain: Duration, checked: Duration) {
    let rate = |time: Duration| LENGTH as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{what}: unchecked {:.2} GB/s, checked {:.2} GB/s, ratio {:.3}",
        rate(plain),
        rate(checked),
        checked.as_secs_f64() / plain.as_secs_f64()
    );
}
