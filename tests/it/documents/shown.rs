//! The tests that docs/threat-model.md and docs/faults.md name are there, and each threat and each fault names one.
//!
//! A name stands in backticks: `pull::storms::NAME` is in tests/it/pull/storms.rs, `clients::year::NAME` in
//! tests/clients/year.rs, and `cache::fill::reader::detached::tests::NAME` at the foot of src/cache/fill/reader/detached.rs. A name without a
//! last part that is a test, such as `pull::storms`, means all tests of that file.

use std::fs;
use std::path::PathBuf;

use super::root;

const PAGES: [&str; 2] = ["docs/threat-model.md", "docs/faults.md"];
/// The file of a fuzzing target stands outside of src, see fuzz/README.md.
const REPLAY: &str = "fuzz/targets/replay.rs";

/// What stands in backticks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn is_path(word: &str) -> bool {
    let plain = |part: &str| part.starts_with(|c: char| c.is_ascii_lowercase()) && part.chars().all(is_plain);
    word.contains("::") && word.split("::").all(plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// A test's name without its path, which leads nowhere.
fn is_bare(word: &str) -> bool {
    let is_metric = word.starts_with("pullthrough_");
    !is_metric && word.chars().all(is_plain) && word.matches('_').count() >= 4
}

/// The files that a module of this path may be.
fn candidates(path: &[&str]) -> Vec<PathBuf> {
    let (folders, rest): (&[&str], _) = match path {
        ["fuzzing", "replay"] => return vec![root().join(REPLAY)],
        ["clients", rest @ ..] => (&["tests/clients"], rest),
        _ => (&["tests/it", "src"], path),
    };
    let files = folders.iter().flat_map(|folder| {
        let mut file = root().join(folder);
        file.extend(rest);
        let above = file
            .parent()
            .map(|above| above.with_extension("rs"))
            .filter(|_| *folder == "src" && rest.last() == Some(&"tests"));
        [Some(file.with_extension("rs")), Some(file.join("mod.rs")), above]
    });
    files.flatten().collect()
}

fn module(path: &[&str]) -> Option<String> {
    candidates(path).into_iter().find_map(|file| fs::read_to_string(file).ok())
}

/// The names of the tests in a source.
fn tests(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            continue;
        }
        let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let (true, Some(declared)) = (is_test, declared) {
            found.extend(declared.split(['(', '<']).next());
        }
        is_test &= line.starts_with("//");
    }
    found
}

/// Whether such a test, or such a file with tests, is there.
fn is_there(word: &str) -> bool {
    let path: Vec<&str> = word.split("::").collect();
    let Some((name, above)) = path.split_last() else { return false };
    module(above).is_some_and(|source| tests(&source).contains(name))
        || module(&path).is_some_and(|source| !tests(&source).is_empty())
        || root().join("tests/it").join(path.join("/")).is_dir()
}

#[test]
fn every_test_that_a_page_names_is_there() {
    for page in PAGES {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let mut named = 0;
        for word in words(&text) {
            assert!(!is_bare(word), "{page}: {word} says not where it is");
            if is_path(word) {
                assert!(is_there(word), "{page}: there is no test {word}");
                named += 1;
            }
        }
        assert!(named >= 50, "{page} names {named} tests");
    }
}

/// The rows of a page's tables, but not those under this heading, each with its number.
fn rows<'a>(text: &'a str, but: &str) -> Vec<(usize, &'a str)> {
    let mut heading = "";
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
        let body = line.starts_with('|') && !line.starts_with("|---");
        let below_head = number > 0 && text.lines().nth(number - 1).is_some_and(|above| above.starts_with('|'));
        if body && below_head && heading != but {
            found.push((number + 1, line));
        }
    }
    found
}

#[test]
fn each_threat_and_each_fault_names_a_test() {
    for page in PAGES {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let rows = rows(&text, "The grid");
        assert!(rows.len() > 10, "{page}: {} rows", rows.len());
        for (number, row) in rows {
            assert!(words(row).any(is_path), "{page}:{number} names no test: {row}");
        }
    }
}

#[test]
fn each_part_of_how_names_a_test() {
    let text = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let how = text.split("\n## How\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let parts: Vec<&str> = how.split("\n**").skip(1).collect();
    assert!(parts.len() >= 10, "{} parts", parts.len());
    for part in parts {
        assert!(words(part).any(is_path), "docs/threat-model.md names no test: **{part}");
    }
}

#[test]
fn names_lead_where_they_say() {
    let right = [
        "pull::storms",
        "pull::storms::a_blob_of_which_no_byte_ever_comes_is_asked_for_twice",
        "store::what_is_abandoned_leaves_nothing",
        "hostile_client",
        "clients::year::a_full_disk_costs_no_pull_and_heals_by_itself",
        "clients::soak::soak",
        "fuzzing::replay",
        "config::load::tests::no_text_panics_the_loader",
        "cache::fill::reader::detached::tests::a_reader_on_its_own_asks_no_miser_for_ever_and_nobody_once_it_has_left",
    ];
    right.into_iter().for_each(|word| assert!(is_there(word), "{word}"));
    for word in ["pull::storms::no_such_test", "pull::no_such_file::a_test", "pull::storms::until", "store::tests"] {
        assert!(!is_there(word), "{word}");
    }
}
