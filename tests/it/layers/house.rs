//! All files of `src` with what each imports of which other: names are followed to the file that defines them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::source::{Import, Mention, Source};

/// A list of names: a module's, or a path's.
type Names = [String];

/// A file's path below `src`, with `/`.
pub(super) type File = String;

pub(super) struct House {
    pub(super) files: BTreeMap<File, Source>,
    pub(super) texts: BTreeMap<File, String>,
    modules: BTreeMap<Vec<String>, File>,
    /// Files that only tests compile.
    of_tests: BTreeSet<File>,
}

/// That one file names something that another defines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: File,
    pub(super) to: File,
    pub(super) name: String,
    /// A room's door passes it on: no use of its own.
    pub(super) is_re_export: bool,
}

/// Imports of imports are followed this far: further means that they go round.
const FAR: usize = 16;

fn module_of(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// Whether a file only says what its folder shows: `mod.rs`, `lib.rs`.
fn is_door(file: &str) -> bool {
    file == "lib.rs" || file == "mod.rs" || file.ends_with("/mod.rs")
}

fn read(folder: &Path, below: &str, into: &mut Vec<(File, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            read(&entry.path(), &format!("{name}/"), into);
        } else if name.ends_with(".rs") {
            into.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

impl House {
    pub(super) fn of_folder(folder: &Path) -> Self {
        let mut files = Vec::new();
        read(folder, "", &mut files);
        Self::of(files)
    }

    pub(super) fn of(files: Vec<(File, String)>) -> Self {
        let texts: BTreeMap<File, String> = files.into_iter().collect();
        let files: BTreeMap<File, Source> =
            texts.iter().map(|(file, text)| (file.clone(), Source::read(text))).collect();
        // The program is a crate of its own: it names the library by `pullthrough::`.
        let library = files.keys().filter(|file| *file != "main.rs");
        let modules: BTreeMap<Vec<String>, File> = library.map(|file| (module_of(file), file.clone())).collect();
        let mut tests: Vec<Vec<String>> = Vec::new();
        for (file, source) in &files {
            let below = |name: &String| [module_of(file), vec![name.clone()]].concat();
            tests.extend(source.modules_of_tests.iter().map(below));
        }
        let of_tests = modules.iter().filter(|(module, _)| tests.iter().any(|above| module.starts_with(above)));
        let of_tests = of_tests.map(|(_, file)| file.clone()).collect();
        Self { files, texts, modules, of_tests }
    }

    /// The path from the crate's root that is meant by `path` in the module `scope` of `file`; none if it leads out of
    /// the crate or to the file's own.
    pub(super) fn absolute(&self, file: &str, scope: &Names, path: &Names) -> Option<Vec<String>> {
        self.absolute_within(file, scope, path, FAR)
    }

    fn absolute_within(&self, file: &str, scope: &Names, path: &Names, far: usize) -> Option<Vec<String>> {
        let here = [&module_of(file), scope].concat();
        let ups = path.iter().take_while(|name| *name == "super").count();
        let (first, rest) = path.split_first()?;
        if first == "crate" {
            return Some(rest.to_vec());
        }
        if ups > 0 || first == "self" {
            let rest = &path[ups.max(1)..];
            let own = scope.len().checked_sub(ups).filter(|_| far > 0);
            let within = own.and_then(|own| self.absolute_within(file, &scope[..own], rest, far - 1));
            return within.or_else(|| Some([&here[..here.len().checked_sub(ups)?], rest].concat()));
        }
        let own = self.import(file, scope, first).filter(|import| import.path != path && far > 0);
        if let Some(import) = own {
            let target = self.absolute_within(file, &import.scope, &import.path, far - 1)?;
            return Some([&target, rest].concat());
        }
        let below = [&here, path].concat();
        self.modules.contains_key(&below[..=here.len()]).then_some(below)
    }

    /// The import that makes `name` known in a module of a file.
    fn import(&self, file: &str, scope: &Names, name: &str) -> Option<&Import> {
        let imports = &self.files.get(file)?.imports;
        imports.iter().find(|import| import.scope == scope && import.name == name)
    }

    /// The file where the path from the root `path` ends, and the first name in it that is no module. Doors are passed
    /// through to what they show; what another file shows of a third is its own affair.
    fn locate(&self, path: &Names, far: usize) -> Option<(&File, Option<String>)> {
        let depth = (0..=path.len()).rev().find(|depth| self.modules.contains_key(&path[..*depth]))?;
        let file = &self.modules[&path[..depth]];
        let Some(name) = path.get(depth) else { return Some((file, None)) };
        let shown = self.import(file, &[], name).filter(|_| is_door(file) && far > 0);
        if let Some(import) = shown {
            let target = self.absolute_within(file, &[], &import.path, FAR)?;
            return self.locate(&[&target, &path[depth + 1..]].concat(), far - 1);
        }
        Some((file, Some(name.clone())))
    }

    /// What the files name of each other, tests apart.
    pub(super) fn edges(&self) -> BTreeSet<Edge> {
        let mut edges = BTreeSet::new();
        for (from, source) in &self.files {
            if from == "main.rs" || self.of_tests.contains(from) {
                continue;
            }
            let mentions = source.mentions.iter().filter(|mention| !mention.is_of_tests);
            edges.extend(mentions.filter_map(|mention| self.edge(from, mention)));
        }
        edges
    }

    fn edge(&self, from: &File, mention: &Mention) -> Option<Edge> {
        let path = self.absolute(from, &mention.scope, &mention.path)?;
        let (to, name) = self.locate(&path, FAR)?;
        // The name of a room alone is no use of it; the paths that begin with it are.
        let is_use = from != to && !(is_door(to) && name.is_none());
        assert!(
            !(is_use && name.as_deref() == Some("*")),
            "{from} imports all of {to}: name what it takes, else this test cannot follow it"
        );
        let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
        let is_re_export = mention.is_re_export && is_door(from);
        is_use.then(|| Edge { from: from.clone(), to: to.clone(), name, is_re_export })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(files: &[(&str, &str)]) -> House {
        House::of(files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
    }

    /// `from -> to: name` for each edge, `(shown)` for those of doors.
    fn printed(house: &House) -> Vec<String> {
        let one = |edge: &Edge| {
            let shown = if edge.is_re_export { " (shown)" } else { "" };
            format!("{} -> {}: {}{shown}", edge.from, edge.to, edge.name)
        };
        house.edges().iter().map(one).collect()
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_its_end() {
        let files = |user: &'static str| {
            house(&[
                ("lib.rs", "pub mod store; pub mod proxy;"),
                ("main.rs", "use store::Blob;"),
                ("store/mod.rs", "mod blob; pub mod care; pub use blob::{Blob, open as opened}; pub use care::Row;"),
                ("store/blob.rs", "pub struct Blob; pub fn open() {}"),
                ("store/care/mod.rs", "mod policy; pub(crate) use policy::Row; pub(crate) mod scrub;"),
                ("store/care/policy.rs", "pub struct Row;"),
                ("store/care/scrub.rs", "pub fn scrub() {}"),
                ("proxy/mod.rs", "mod user;"),
                ("proxy/user.rs", user),
            ])
        };
        for (user, expected) in [
            ("use crate::store::Blob;", &["store/blob.rs: Blob"][..]),
            ("use crate::store::opened;", &["store/blob.rs: open"]),
            (
                "use crate::store::{self, Row}; fn f(x: store::Blob) {}",
                &["store/blob.rs: Blob", "store/care/policy.rs: Row"],
            ),
            (
                "use super::super::store::care; fn f(x: care::scrub::X, y: care::Row) {}",
                &["store/care/policy.rs: Row", "store/care/scrub.rs: X"],
            ),
            ("use crate::store::care::scrub; fn f() { scrub::scrub() }", &["store/care/scrub.rs: scrub"]),
            (
                "fn f() { crate::store::Blob::open(); g::<super::super::store::Row>() }",
                &["store/blob.rs: Blob", "store/care/policy.rs: Row"],
            ),
            ("use crate::store as s; mod inner { use super::s::Blob; }", &["store/blob.rs: Blob"]),
            ("use std::io; use io::Read; use serde::de; fn f(x: Own::Y, z: store::Blob) {}", &[]),
            ("#[cfg(test)] mod tests { use super::*; use crate::store::Blob; }", &[]),
            ("#[cfg(test)] use crate::store::Blob;", &[]),
        ] {
            let all = printed(&files(user));
            let found: Vec<_> = all.iter().filter_map(|edge| edge.strip_prefix("proxy/user.rs -> ")).collect();
            assert_eq!(found, expected, "{user}");
        }
    }

    #[test]
    fn a_door_shows_what_others_define_and_is_named_for_what_it_defines_itself() {
        let house = house(&[
            ("a/mod.rs", "pub mod b; mod c; pub use b::B; use c::C; pub struct Own(C);"),
            ("a/b.rs", "use super::{Own, c::C}; pub struct B;"),
            ("a/c.rs", "pub struct C;"),
        ]);
        assert_eq!(
            printed(&house),
            [
                "a/b.rs -> a/c.rs: C",
                "a/b.rs -> a/mod.rs: Own",
                "a/mod.rs -> a/b.rs: B (shown)",
                "a/mod.rs -> a/c.rs: C",
            ]
        );
    }

    #[test]
    fn what_an_ordinary_file_shows_of_a_third_is_that_files() {
        let house = house(&[("a.rs", "pub use crate::b::B;"), ("b.rs", "pub struct B;"), ("c.rs", "use crate::a::B;")]);
        assert_eq!(printed(&house), ["a.rs -> b.rs: B", "c.rs -> a.rs: B"]);
    }

    #[test]
    fn a_file_of_tests_has_no_edges() {
        let house = house(&[
            ("a/mod.rs", "#[cfg(test)] mod tests; pub struct A;"),
            ("a/tests.rs", "use super::A; mod below;"),
            ("a/tests/below.rs", "use crate::a::A;"),
        ]);
        assert_eq!(printed(&house), [""; 0]);
    }

    #[test]
    fn imports_that_go_round_end() {
        let house = house(&[
            ("a/mod.rs", "pub use super::b::X;"),
            ("b/mod.rs", "pub use super::a::X;"),
            ("c.rs", "use crate::a::X;"),
        ]);
        assert!(house.edges().len() <= 3);
    }

    #[test]
    #[should_panic(expected = "imports all of")]
    fn a_star_is_refused() {
        house(&[("a.rs", "use crate::b::*;"), ("b.rs", "")]).edges();
    }
}
