//! The rules of the house: each looks at all files and says what breaks it.

use std::collections::{BTreeMap, BTreeSet};

use super::house::{Edge, File, House};

/// Rooms that share a floor do not know each other.
pub(super) const FLOORS: [&[&str]; 7] = [
    &["cli"],
    &["server"],
    &["config"],
    &["proxy", "admin"],
    &["cache"],
    &["store", "upstream", "ca", "telemetry"],
    &["oci", "wire", "host", "setup"],
];
const MOST_FILES: usize = 16;
/// Each room has its own.
const IN_EVERY_ROOM: [&str; 2] = ["Error", "Config"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Between rooms, imports go down.
    Down,
    /// Files do not import each other in a circle.
    Circle,
    /// Two subfolders of one folder do not import each other.
    Subfolders,
    /// A folder holds at most 16 files.
    Crowd,
    /// A `mod.rs` opens with an essay.
    Essay,
    /// A type's name stands for one thing.
    Name,
}

/// What breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) rule: Rule,
    /// The files, the folder or the name, as the list of what cannot be avoided names it.
    pub(super) what: String,
    /// The lines that make it.
    pub(super) why: String,
}

pub(super) fn findings(house: &House) -> Vec<Finding> {
    let edges = house.edges();
    let all = [down(house), circles(&edges), subfolders(&edges), crowds(house), essays(house), names(house)];
    all.concat()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().rev().position(|rooms| rooms.contains(&room))
}

fn folder(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn lines(edges: &[&Edge]) -> String {
    let mut pairs: BTreeMap<(&File, &File), Vec<&str>> = BTreeMap::new();
    for edge in edges {
        pairs.entry((&edge.from, &edge.to)).or_default().push(&edge.name);
    }
    let line =
        |((from, to), names): ((&File, &File), Vec<&str>)| format!("\n    {from} names {to}: {}", names.join(", "));
    pairs.into_iter().map(line).collect()
}

/// The first names of the paths that lead into the crate: tests' too.
pub(super) fn rooms_named(house: &House) -> Vec<(&File, String)> {
    let mut named = Vec::new();
    for (file, source) in house.files.iter().filter(|(file, _)| file.contains('/')) {
        for mention in &source.mentions {
            let path = house.absolute(file, &mention.scope, &mention.path).unwrap_or_default();
            named.extend(path.first().filter(|name| *name != "*").map(|room| (file, room.clone())));
        }
    }
    named
}

fn down(house: &House) -> Vec<Finding> {
    let mut found = BTreeSet::new();
    for (file, named) in rooms_named(house) {
        let room = file.split('/').next().unwrap_or_default();
        let why = match (floor(&named), floor(room)) {
            _ if named == room => continue,
            (Some(below), Some(own)) if below < own => continue,
            (Some(_), Some(_)) => format!("\n    {named} is not below {room}"),
            _ => "\n    a room is on no floor: draw it in this test and in docs/architecture.md".to_owned(),
        };
        found.insert(Finding { rule: Rule::Down, what: format!("{file} imports {named}"), why });
    }
    found.into_iter().collect()
}

/// The groups of nodes that lead to each other.
fn groups<'a>(arrows: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<Vec<&'a str>> {
    let reached = |from: &'a str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(node) = next.pop() {
            let new = arrows.get(node).into_iter().flatten().filter(|to| seen.insert(**to));
            next.extend(new.copied().collect::<Vec<_>>());
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = arrows.keys().map(|node| (*node, reached(node))).collect();
    let on_circle = reached.iter().filter(|(node, seen)| seen.contains(*node));
    let group = |(node, seen): (&&'a str, &BTreeSet<&'a str>)| {
        let back = |other: &&&str| reached.get(**other).is_some_and(|seen| seen.contains(node));
        seen.iter().filter(back).copied().collect()
    };
    on_circle.map(group).collect()
}

fn circles(edges: &BTreeSet<Edge>) -> Vec<Finding> {
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| !edge.is_re_export) {
        arrows.entry(&edge.from).or_default().insert(&edge.to);
    }
    let finding = |files: Vec<&str>| {
        let within = |edge: &&Edge| {
            let both = files.contains(&edge.from.as_str()) && files.contains(&edge.to.as_str());
            both && !edge.is_re_export
        };
        let why = lines(&edges.iter().filter(within).collect::<Vec<_>>());
        Finding { rule: Rule::Circle, what: files.join(", "), why }
    };
    groups(&arrows).into_iter().map(finding).collect()
}

fn subfolders(edges: &BTreeSet<Edge>) -> Vec<Finding> {
    let mut between: BTreeMap<(String, String), Vec<&Edge>> = BTreeMap::new();
    for edge in edges {
        let (mut from, mut to) = (folder(&edge.from).split('/'), folder(&edge.to).split('/'));
        let mut above = Vec::new();
        while let (Some(own), Some(other)) = (from.next(), to.next()) {
            above.push(own);
            if own != other {
                let path = |name: &str| [&above[..above.len() - 1], &[name]].concat().join("/");
                between.entry((path(own), path(other))).or_default().push(edge);
                break;
            }
        }
    }
    let mut found = Vec::new();
    for ((one, other), there) in &between {
        let back = between.get(&(other.clone(), one.clone()));
        if let (Some(back), true) = (back, one < other) {
            let why = lines(&[there.as_slice(), back.as_slice()].concat());
            found.push(Finding { rule: Rule::Subfolders, what: format!("{one}, {other}"), why });
        }
    }
    found
}

fn crowds(house: &House) -> Vec<Finding> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for file in house.files.keys() {
        *counts.entry(folder(file)).or_default() += 1;
    }
    let crowds = counts.into_iter().filter(|(_, count)| *count > MOST_FILES);
    crowds
        .map(|(folder, count)| Finding {
            rule: Rule::Crowd,
            what: folder.to_owned(),
            why: format!("\n    it holds {count} files; the most is {MOST_FILES}"),
        })
        .collect()
}

/// What an essay lacks, if anything: a caption of its own, and what flows through the room or its scope.
fn lacks(text: &str) -> Option<&'static str> {
    let essay: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let caption: String = essay.iter().take_while(|line| !line.is_empty()).map(|line| format!("{line} ")).collect();
    let is_sentence = caption.trim_end().ends_with('.') && caption.split_whitespace().count() >= 4;
    let has = |part: &str| essay.iter().any(|line| line.strip_prefix(part).is_some_and(|rest| rest.len() > 10));
    match () {
        () if essay.first().is_none_or(|first| first.starts_with("ESSAY")) => Some("an essay"),
        () if !is_sentence => Some("a caption: one sentence, then an empty line"),
        () if !has("Flow:") && !has("Scope:") => Some("a line `//! Flow:` or `//! Scope:`"),
        () => None,
    }
}

fn essays(house: &House) -> Vec<Finding> {
    let rooms = house.texts.iter().filter(|(file, _)| file.ends_with("/mod.rs"));
    let finding = |(file, text): (&File, &String)| {
        let what = file.clone();
        lacks(text).map(|lack| Finding { rule: Rule::Essay, what, why: format!("\n    it lacks {lack}") })
    };
    rooms.filter_map(finding).collect()
}

fn names(house: &House) -> Vec<Finding> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, source) in &house.files {
        for name in source.types.iter().filter(|name| !IN_EVERY_ROOM.contains(&name.as_str())) {
            files.entry(name).or_default().push(file);
        }
    }
    let twice = files.into_iter().filter(|(_, files)| files.len() > 1);
    twice
        .map(|(name, files)| Finding {
            rule: Rule::Name,
            what: name.to_owned(),
            why: format!("\n    it is in {}", files.join(", ")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], rule: Rule) -> Vec<(String, String)> {
        let house = House::of(files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect());
        let all = findings(&house).into_iter().filter(|finding| finding.rule == rule);
        all.map(|finding| (finding.what, finding.why.trim_start().replace("\n    ", "; "))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(what, why)| ((*what).to_owned(), (*why).to_owned())).collect()
    }

    #[test]
    fn up_and_sideways_are_found_and_so_are_rooms_on_no_floor() {
        let files = [
            ("ca/mod.rs", ""),
            ("cache/mod.rs", ""),
            ("loft/mod.rs", ""),
            ("store/mod.rs", "use crate::oci::X; use super::ca::X;"),
            ("store/disk.rs", "#[cfg(test)] mod tests { use crate::cache::Y; }"),
            ("oci/mod.rs", "use crate::loft::Z;"),
        ];
        assert_eq!(
            found(&files, Rule::Down),
            pairs(&[
                ("oci/mod.rs imports loft", "a room is on no floor: draw it in this test and in docs/architecture.md"),
                ("store/disk.rs imports cache", "cache is not below store"),
                ("store/mod.rs imports ca", "ca is not below store"),
            ])
        );
    }

    #[test]
    fn a_circle_is_named_with_the_imports_that_make_it() {
        let files = [
            ("a/mod.rs", "mod b; mod c; mod d; pub use d::D; pub use b::B; pub use c::C;"),
            ("a/b.rs", "use super::C; pub struct B;"),
            ("a/c.rs", "use super::{B, D, d::E}; pub struct C;"),
            ("a/d.rs", "fn f() { super::b::g() } pub struct D;"),
            ("a/e.rs", "use super::B;"),
        ];
        let why = "a/b.rs names a/c.rs: C; a/c.rs names a/b.rs: B; a/c.rs names a/d.rs: D, E; a/d.rs names a/b.rs: g";
        assert_eq!(found(&files, Rule::Circle), pairs(&[("a/b.rs, a/c.rs, a/d.rs", why)]));
    }

    #[test]
    fn two_circles_are_two_and_tests_and_doors_make_none() {
        let files = [
            ("a/mod.rs", "mod b; pub use b::B;"),
            ("a/b.rs", "use super::super::c::C; pub struct B;"),
            ("c.rs", "use crate::a::B; #[cfg(test)] mod tests { use crate::d::D; }"),
            ("d.rs", "use crate::{c::C, e::E};"),
            ("e.rs", "use crate::d::D;"),
        ];
        let found: Vec<_> = found(&files, Rule::Circle).into_iter().map(|(what, _)| what).collect();
        assert_eq!(found, ["a/b.rs, c.rs", "d.rs, e.rs"]);
    }

    #[test]
    fn subfolders_that_import_each_other_are_found_without_a_circle_of_files() {
        let files = [
            ("s/x/mod.rs", "pub mod a; pub mod b;"),
            ("s/x/a.rs", "use crate::s::y::c::C;"),
            ("s/x/b.rs", ""),
            ("s/y/c.rs", ""),
            ("s/y/z/d.rs", "use crate::s::x::b::B;"),
            ("s/e.rs", "use crate::s::x::b::B;"),
        ];
        let why = "s/x/a.rs names s/y/c.rs: C; s/y/z/d.rs names s/x/b.rs: B";
        assert_eq!(found(&files, Rule::Subfolders), pairs(&[("s/x, s/y", why)]));
        assert_eq!(found(&files, Rule::Circle), []);
    }

    #[test]
    fn the_seventeenth_file_of_a_folder_is_one_too_many() {
        let name = |number: usize| format!("a/f{number}.rs");
        let files: Vec<String> = (0..16).map(name).chain(["a/b/c.rs".to_owned()]).collect();
        let mut files: Vec<(&str, &str)> = files.iter().map(|file| (file.as_str(), "")).collect();
        assert_eq!(found(&files, Rule::Crowd), []);
        files.push(("a/mod.rs", ""));
        assert_eq!(found(&files, Rule::Crowd), pairs(&[("a", "it holds 17 files; the most is 16")]));
    }

    #[test]
    fn an_essay_has_a_caption_and_a_flow_or_a_scope() {
        let caption = "//! The store keeps blobs.\n";
        for (text, lack) in [
            (format!("{caption}//!\n//! Flow: bytes are staged, then committed.\n\nmod a;"), None),
            (format!("{caption}//!\n//! Scope: one folder on one disk.\nmod a;"), None),
            ("//! ESSAY\n\nmod a;".to_owned(), Some("an essay")),
            ("mod a;".to_owned(), Some("an essay")),
            (
                "//! Blobs.\n//!\n//! Flow: bytes are staged.".to_owned(),
                Some("a caption: one sentence, then an empty line"),
            ),
            (caption.to_owned(), Some("a line `//! Flow:` or `//! Scope:`")),
            (format!("{caption}//!\n//! Flow:\n"), Some("a line `//! Flow:` or `//! Scope:`")),
            (format!("{caption}\nmod a;\n//! Flow: not at the top"), Some("a line `//! Flow:` or `//! Scope:`")),
        ] {
            assert_eq!(lacks(&text), lack, "{text}");
        }
    }

    #[test]
    fn a_name_for_two_types_is_found_except_what_every_room_has() {
        let files = [
            ("a.rs", "pub struct Name; pub enum Error {} struct Own; pub struct Config;"),
            ("b.rs", "pub(crate) trait Name {} pub enum Error {} pub struct Own; pub struct Config;"),
        ];
        assert_eq!(found(&files, Rule::Name), pairs(&[("Name", "it is in a.rs, b.rs")]));
    }
}
