//! The stable runner: every case of the corpora, and a fixed number of changes to them, the same each time.

use std::cell::Cell;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is put into an input now and then: the words of `fuzz/words.dict`.
const WORDS: &str = include_str!("../words.dict");
const LONGEST: usize = 4096;

/// Panics of threads that nobody joins: the store's own.
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
const THREADS: [&str; 4] = ["catalog", "evict", "walk", "scrub"];

thread_local! {
    /// Panics of this thread, those of tasks that nobody asks about included.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

macro_rules! replay {
    ($($name:ident: $changes:literal,)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name), super::$name, $changes);
        })*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

replay! {
    accept: 4000,
    authority: 4000,
    authorization: 1000,
    bearers: 1000,
    catalog: 6,
    challenge: 4000,
    config: 300,
    content_range: 4000,
    dns: 4000,
    docker_config: 1000,
    door: 300,
    extents: 500,
    first_bytes: 1000,
    hello: 100,
    htpasswd: 2000,
    image: 4000,
    inside: 300,
    landed: 4000,
    location: 4000,
    manifest: 4000,
    naming: 1000,
    proxy_header: 4000,
    query: 2000,
    range: 4000,
    route: 2000,
    token_answer: 4000,
    token_request: 1000,
}

#[test]
fn every_target_is_run_by_libfuzzer_too_and_has_a_corpus() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in NAMES {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name} is not in fuzz/Cargo.toml");
        let source = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("pullthrough::fuzzing::{name}(data)")), "{source}");
    }
    for folder in ["fuzz_targets", "corpus"] {
        let mut names: Vec<String> = fs::read_dir(root().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(names, NAMES, "{folder}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Runs `target` over its corpus, then over `changes` inputs that are made of it.
fn replay(name: &str, target: fn(&[u8]), changes: usize) {
    watch_panics();
    let folder = root().join("corpus").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (file, input) in files.iter().zip(&corpus) {
        run(target, input, &file.display().to_string());
    }
    let mut dice = Dice::of(name);
    for change in 0..changes {
        run(target, &dice.changed(&corpus), &format!("{name}, change {change}"));
    }
}

fn run(target: fn(&[u8]), input: &[u8], what: &str) {
    let before = panics();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(outcome.is_ok() && panics() == before, "{what} fails: b\"{}\"", input.escape_ascii());
}

fn panics() -> usize {
    HERE.get() + ELSEWHERE.load(Ordering::Relaxed)
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let _ = HERE.try_with(|here| here.set(here.get() + 1));
            if std::thread::current().name().is_some_and(|name| THREADS.contains(&name)) {
                ELSEWHERE.fetch_add(1, Ordering::Relaxed);
            }
            before(panic);
        }));
    });
}

/// Chance that is the same each time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn of(name: &str) -> Self {
        Self(
            name.bytes()
                .fold(0x9e37_79b9_7f4a_7c15, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)),
        )
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// An input of the corpus with a few changes.
    fn changed(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.one(corpus).clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input, corpus);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = input.len().min(at + 1 + self.below(8));
        match self.below(7) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = *self.one(b"\0\t\n\r \"%&'()*+,-./0:;<=>?@[\\]^_{|}~\x7f\x80\xff"),
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            4 => {
                let other = self.one(corpus).clone();
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => {
                let byte = u8::try_from(self.below(256)).unwrap();
                input.insert(at, byte);
            }
            _ => {
                let words: Vec<&str> =
                    WORDS.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"')).collect();
                let word = unescaped(self.one::<&str>(&words));
                input.splice(at..end, word);
            }
        }
    }
}

/// A word as libFuzzer's dictionaries write it.
fn unescaped(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let hex = rest.strip_prefix("\\x").and_then(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
        let length = match hex {
            Some(byte) => {
                bytes.push(byte);
                4
            }
            None if first == '\\' => {
                bytes.push(rest.as_bytes()[1]);
                2
            }
            None => {
                bytes.extend_from_slice(first.to_string().as_bytes());
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    bytes
}
