//! The house stands as it is drawn: imports go down and never round, folders are small, names and essays are clear.
//!
//! Flow: `lexer` reads a file's words, `source` the paths it names, `house` follows them to the file that defines their
//! end, `rules` says what breaks a rule. `docs/architecture.md` has the drawing.
//! Scope: `src`. Code that only tests or fuzz targets compile takes part in the floors and in nothing else.

use std::path::Path;
use std::sync::LazyLock;

mod house;
mod lexer;
mod rules;
mod source;

use house::House;
use rules::{Finding, Rule, findings, rooms_named};

/// A break of a rule that cannot be avoided. It leaves this list when its reason does.
struct Unavoidable {
    rule: Rule,
    /// As the failure names it.
    what: &'static str,
    reason: &'static str,
}

const UNAVOIDABLE: [Unavoidable; 0] = [];
const MOST_UNAVOIDABLE: usize = 3;

static HOUSE: LazyLock<House> = LazyLock::new(|| House::of_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
static FINDINGS: LazyLock<Vec<Finding>> = LazyLock::new(|| findings(&HOUSE));

/// Fails with everything that breaks this rule.
fn holds(rule: Rule) {
    let excused = |finding: &&Finding| !UNAVOIDABLE.iter().any(|one| one.rule == rule && one.what == finding.what);
    let broken = FINDINGS.iter().filter(|finding| finding.rule == rule).filter(excused);
    let broken: Vec<String> = broken.map(|finding| format!("\n  {}:{}", finding.what, finding.why)).collect();
    assert!(broken.is_empty(), "{rule:?} is broken {} times:{}", broken.len(), broken.concat());
}

#[test]
fn imports_between_rooms_only_go_down() {
    holds(Rule::Down);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    holds(Rule::Circle);
}

#[test]
fn no_two_subfolders_import_each_other() {
    holds(Rule::Subfolders);
}

#[test]
fn no_folder_is_crowded() {
    holds(Rule::Crowd);
}

#[test]
fn every_mod_rs_opens_with_an_essay() {
    holds(Rule::Essay);
}

#[test]
fn no_type_name_stands_for_two_things() {
    holds(Rule::Name);
}

/// Work that is started by itself all the same, and why a stop need not wait for it.
const ENDS_BY_ITSELF: [(&str, &str); 6] = [
    ("cache/body/pump.rs", "a read for an answer, which a drain waits for"),
    ("proxy/clients/password.rs", "a password that a request waits for, which a drain waits for"),
    ("proxy/limit/connection.rs", "the streams of a connection, which waits for them"),
    ("upstream/credentials/kept.rs", "a thread for which a task of the group waits"),
    ("upstream/http/redirect.rs", "a few words that are read away within seconds"),
    ("upstream/http/sending/forwarded.rs", "a connection that ends with its one request"),
];

/// What a stop does not wait for races it for the disk, and its log lines have no request id.
#[test]
fn work_in_the_background_is_among_the_tasks_of_its_part() {
    let rooms = ["cache/", "proxy/", "upstream/"];
    let files = HOUSE.files.iter().filter(|(file, _)| rooms.iter().any(|room| file.starts_with(room)));
    let mentions = files.flat_map(|(file, source)| source.mentions.iter().map(move |mention| (file, mention)));
    let starts = mentions.filter(|(_, mention)| {
        let names = [mention.path.first(), mention.path.last()].map(|name| name.map_or("", String::as_str));
        !mention.is_of_tests && names[0] == "tokio" && names[1].starts_with("spawn")
    });
    let mut files: Vec<&str> = starts.map(|(file, _)| file.as_str()).collect();
    files.dedup();
    assert_eq!(files, ENDS_BY_ITSELF.map(|(file, _)| file));
}

#[test]
fn what_cannot_be_avoided_is_a_short_list_that_is_needed() {
    assert!(UNAVOIDABLE.len() <= MOST_UNAVOIDABLE, "untie one before the next is listed");
    for Unavoidable { rule, what, reason } in UNAVOIDABLE {
        assert!(reason.split_whitespace().count() >= 5, "{rule:?}, {what}: say why it cannot be avoided");
        let needed = FINDINGS.iter().any(|finding| finding.rule == rule && finding.what == what);
        assert!(needed, "{rule:?}, {what}: it is no longer broken, take it from the list");
    }
}

#[test]
fn the_reader_sees_what_is_there() {
    let named = rooms_named(&HOUSE).len();
    assert!(named > 2000, "{named} paths into the crate were read");
    let (files, edges) = (HOUSE.files.len(), HOUSE.edges().len());
    assert!(files > 300 && edges > 1000, "{edges} imports between {files} files were read");
}
