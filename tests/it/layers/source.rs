//! One source file: the paths it names, what it imports under which name, and the types it shows to others.

use std::ops::Range;

use super::lexer::{Token, tokens};

/// A path as it is written, in the (inline) module of the file where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) scope: Vec<String>,
    pub(super) path: Vec<String>,
    /// Only tests and fuzz targets compile it.
    pub(super) is_of_tests: bool,
    pub(super) is_re_export: bool,
}

/// What a `use` makes known under a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) scope: Vec<String>,
    pub(super) name: String,
    pub(super) path: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) mentions: Vec<Mention>,
    pub(super) imports: Vec<Import>,
    /// Types, traits and aliases that other files may name.
    pub(super) types: Vec<String>,
    /// `#[cfg(test)] mod NAME;`
    pub(super) modules_of_tests: Vec<String>,
}

struct Reader {
    tokens: Vec<Token>,
    of_tests: Vec<bool>,
    /// The open braces: those of an inline module with its name.
    open: Vec<Option<String>>,
    source: Source,
}

/// Words that begin an item or a statement, so that a comma does not end it.
const BEGINNINGS: [&str; 14] = [
    "async",
    "const",
    "enum",
    "extern",
    "fn",
    "impl",
    "let",
    "macro_rules",
    "mod",
    "static",
    "struct",
    "trait",
    "type",
    "use",
];

impl Source {
    pub(super) fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let of_tests = vec![false; tokens.len()];
        let mut reader = Reader { tokens, of_tests, open: Vec::new(), source: Self::default() };
        reader.mark_tests();
        let mut at = 0;
        while at < reader.tokens.len() {
            at = reader.step(at);
        }
        reader.source
    }
}

impl Reader {
    fn is_mark(&self, at: usize, mark: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_mark(mark))
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(word))
    }

    fn word(&self, at: usize) -> Option<&str> {
        self.tokens.get(at)?.word()
    }

    /// The place behind the bracket that closes the one at `from`.
    fn behind_bracket(&self, from: usize) -> usize {
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(from) {
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return at + 1;
            }
        }
        self.tokens.len()
    }

    /// Marks what `#[cfg(test)]` and `#[cfg(any(test, fuzzing))]` guard, and a file under `#![cfg(test)]`.
    fn mark_tests(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            let inner = self.is_mark(at, '#') && self.is_mark(at + 1, '!');
            let bracket = at + 1 + usize::from(inner);
            if !self.is_mark(at, '#') || !self.is_mark(bracket, '[') {
                at += 1;
                continue;
            }
            let end = self.behind_bracket(bracket);
            if self.is_cfg_of_tests(bracket + 1..end) {
                let guarded = if inner { 0..self.tokens.len() } else { at..self.end_of_guarded(end) };
                self.of_tests[guarded].fill(true);
            }
            at = end;
        }
    }

    fn is_cfg_of_tests(&self, attribute: Range<usize>) -> bool {
        let is_cfg = self.is_word(attribute.start, "cfg");
        let has = |word: &str| attribute.clone().any(|at| self.is_word(at, word));
        is_cfg && has("test") && !has("not")
    }

    /// The end of the item, statement, field or arm that begins at `from`, further attributes included.
    fn end_of_guarded(&self, mut from: usize) -> usize {
        while self.is_mark(from, '#') && self.is_mark(from + 1, '[') {
            from = self.behind_bracket(from + 1);
        }
        let mut head = from;
        if self.is_word(head, "pub") {
            head = if self.is_mark(head + 1, '(') { self.behind_bracket(head + 1) } else { head + 1 };
        }
        let is_item = self.word(head).is_some_and(|word| BEGINNINGS.contains(&word));
        let ends_by_semicolon = ["use", "let", "static", "type"].iter().any(|word| self.is_word(head, word))
            || (self.is_word(head, "const") && !self.is_word(head + 1, "fn"));
        let mut at = from;
        while let Some(token) = self.tokens.get(at) {
            match token {
                Token::Mark(';') => return at + 1,
                Token::Mark(',') if !is_item => return at + 1,
                Token::Mark(')' | ']' | '}') => return at,
                Token::Mark('{') if !ends_by_semicolon => return self.behind_bracket(at),
                Token::Mark('(' | '[' | '{') => at = self.behind_bracket(at),
                _ => at += 1,
            }
        }
        self.tokens.len()
    }

    fn scope(&self) -> Vec<String> {
        self.open.iter().flatten().cloned().collect()
    }

    /// Reads what begins at `at` and answers where to go on.
    fn step(&mut self, at: usize) -> usize {
        match &self.tokens[at] {
            Token::Mark('{') => self.open.push(None),
            Token::Mark('}') => _ = self.open.pop(),
            Token::Mark('#') if self.is_mark(at + 1, '[') => return self.attribute(at + 1),
            Token::Word(word) => {
                let word = word.clone();
                return self.step_word(at, &word);
            }
            _ => {}
        }
        at + 1
    }

    /// Paths in an attribute's strings, as serde takes them: `with = "moment::option"`.
    fn attribute(&mut self, bracket: usize) -> usize {
        let end = self.behind_bracket(bracket);
        for at in bracket..end {
            let Token::Text(text) = &self.tokens[at] else { continue };
            let is_path = text.contains("::") && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if is_path {
                let path = text.split("::").map(str::to_owned).collect();
                self.mention(path, at, false);
            }
        }
        bracket + 1
    }

    fn step_word(&mut self, at: usize, word: &str) -> usize {
        let in_module = self.open.iter().all(Option::is_some);
        match word {
            "use" if !self.is_mark(at + 1, '<') => return self.import(at),
            "in" if at > 1 && self.is_mark(at - 1, '(') && self.is_word(at - 2, "pub") => return self.path(at + 1).1,
            "mod" if in_module => {
                let name = self.word(at + 1).unwrap_or_default().to_owned();
                if self.is_mark(at + 2, '{') {
                    self.open.push(Some(name));
                    return at + 3;
                }
                if self.of_tests[at] {
                    self.source.modules_of_tests.push(name);
                }
                return at + 2;
            }
            "struct" | "enum" | "trait" | "type" if in_module => {
                let shown = at > 0 && (self.is_word(at - 1, "pub") || self.is_mark(at - 1, ')'));
                if let (Some(name), true, false) = (self.word(at + 1), shown, self.of_tests[at]) {
                    let name = name.to_owned();
                    self.source.types.push(name);
                }
                return at + 2;
            }
            _ => {}
        }
        let (path, end) = self.path(at);
        let starts = at == 0 || self.tokens[at - 1] != Token::Colons;
        if starts && path.len() > 1 {
            self.mention(path, at, false);
        }
        end
    }

    /// The path whose first word stands at `at`, and where it ends.
    fn path(&self, mut at: usize) -> (Vec<String>, usize) {
        let mut path = Vec::new();
        while let Some(word) = self.word(at) {
            path.push(word.to_owned());
            at += 1;
            if self.tokens.get(at) != Some(&Token::Colons) || self.word(at + 1).is_none() {
                break;
            }
            at += 1;
        }
        (path, at)
    }

    fn mention(&mut self, path: Vec<String>, at: usize, is_re_export: bool) {
        let (scope, is_of_tests) = (self.scope(), self.of_tests[at]);
        self.source.mentions.push(Mention { scope, path, is_of_tests, is_re_export });
    }

    fn import(&mut self, at: usize) -> usize {
        let is_re_export = at > 0 && (self.is_word(at - 1, "pub") || self.is_mark(at - 1, ')'));
        let mut leaves = Vec::new();
        let end = self.tree(at + 1, &[], &mut leaves);
        for (path, name) in leaves {
            let scope = self.scope();
            self.source.imports.push(Import { scope, name, path: path.clone() });
            self.mention(path, at, is_re_export);
        }
        end
    }

    /// The leaves of a `use` tree, each a path and the name that it gets.
    fn tree(&self, mut at: usize, above: &[String], into: &mut Vec<(Vec<String>, String)>) -> usize {
        let mut path = above.to_vec();
        while let Some(token) = self.tokens.get(at) {
            match token {
                Token::Word(word) if word == "as" => {
                    let name = self.word(at + 1).unwrap_or_default().to_owned();
                    into.push((path, name));
                    return at + 2;
                }
                Token::Word(word) if word == "self" && !path.is_empty() => at += 1,
                Token::Word(word) => {
                    path.push(word.clone());
                    at += 1;
                }
                Token::Mark('*') => {
                    path.push("*".to_owned());
                    at += 1;
                }
                Token::Mark('{') => {
                    let end = self.behind_bracket(at);
                    at += 1;
                    while at + 1 < end {
                        at = self.tree(at, &path, into);
                        at += usize::from(self.is_mark(at, ','));
                    }
                    return end;
                }
                Token::Colons => at += 1,
                _ => break,
            }
        }
        if let Some(name) = path.last().cloned() {
            into.push((path, name));
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that a text names, `!` before those of tests, `+` before those that it re-exports.
    fn paths(text: &str) -> Vec<String> {
        let one = |mention: &Mention| {
            let tests = if mention.is_of_tests { "!" } else { "" };
            let re_export = if mention.is_re_export { "+" } else { "" };
            let scope = mention.scope.iter().map(|name| format!("({name}) ")).collect::<String>();
            format!("{tests}{re_export}{scope}{}", mention.path.join("::"))
        };
        Source::read(text).mentions.iter().map(one).collect()
    }

    #[test]
    fn use_trees_become_paths() {
        for (text, expected) in [
            ("use crate::store::Store;", &["crate::store::Store"][..]),
            (
                "use crate::{ca, host::{self, Reserved}, oci};",
                &["crate::ca", "crate::host", "crate::host::Reserved", "crate::oci"],
            ),
            ("use super::{a::{b, c as d,},};", &["super::a::b", "super::a::c"]),
            ("pub(crate) use name::Name; pub use a::b;", &["+name::Name", "+a::b"]),
            ("use super::super::x as _;", &["super::super::x"]),
            ("use super::*;", &["super::*"]),
            ("use crate::a::{self as b};", &["crate::a"]),
        ] {
            assert_eq!(paths(text), expected, "{text}");
        }
    }

    #[test]
    fn an_import_is_known_by_its_own_name_or_by_another() {
        let source = Source::read("use a::{b, c as d, e::{self}}; use f::self as g;");
        let names: Vec<_> = source.imports.iter().map(|import| import.name.as_str()).collect();
        assert_eq!(names, ["b", "d", "e", "g"]);
    }

    #[test]
    fn inline_paths_are_seen_wherever_they_stand() {
        for (text, expected) in [
            ("let x = crate::wire::Body::empty();", &["crate::wire::Body::empty"][..]),
            ("fn f(x: &super::Y<crate::z::Z>) -> a::B {}", &["super::Y", "crate::z::Z", "a::B"]),
            ("x::<u8>(); y.map(b::c::<T>);", &["b::c"]),
            ("impl<T: a::B> c::D for T {}", &["a::B", "c::D"]),
            ("// crate::nothing\n/* a::b */ \"c::d\"", &[]),
            ("#[serde(with = \"moment::option\", rename = \"a b::c\")] x: u8", &["moment::option"]),
            ("pub(in crate::a) fn f() {}", &[]),
            ("fn f() -> impl X + use<'_> { a::b() }", &["a::b"]),
            ("vec![a::b]; macro_rules! m { ($x:expr) => { c::d($x) } }", &["a::b", "c::d"]),
            ("mod inner { fn f() { super::g() } } h::i()", &["(inner) super::g", "h::i"]),
        ] {
            assert_eq!(paths(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_tests_compile_is_known() {
        for (text, expected) in [
            (
                "a::b(); #[cfg(test)] mod tests { use super::*; c::d() } e::f()",
                &["a::b", "!(tests) super::*", "!(tests) c::d", "e::f"][..],
            ),
            ("#[cfg(any(test, fuzzing))] #[path = \"x\"] fn f() -> a::B { c::d } e::f", &["!a::B", "!c::d", "e::f"]),
            ("#[cfg(test)] use a::{b, c}; use d::e;", &["!a::b", "!a::c", "d::e"]),
            ("struct S { #[cfg(test)] x: Vec<a::B>, y: c::D }", &["!a::B", "c::D"]),
            ("#[cfg(test)] const X: a::B = a::B { c: d::e }; f::g", &["!a::B", "!a::B", "!d::e", "f::g"]),
            ("#[cfg(test)] pub(crate) fn f(x: a::B, y: c::D) {} e::f", &["!a::B", "!c::D", "e::f"]),
            ("#[cfg(not(test))] use a::b;", &["a::b"]),
            ("#[cfg_attr(test, allow(x))] use a::b;", &["a::b"]),
            ("#![cfg(test)] use a::b;", &["!a::b"]),
        ] {
            assert_eq!(paths(text), expected, "{text}");
        }
        assert_eq!(Source::read("#[cfg(test)] mod a; mod b; mod c {}").modules_of_tests, ["a"]);
    }

    #[test]
    fn types_count_where_other_files_may_name_them() {
        let text = "pub struct A; pub(crate) enum B {} struct C; pub(super) trait D { type E; } pub type F = u8; \
                    impl X for A { type G = u8; } #[cfg(test)] pub struct H; pub fn f() { struct I; }";
        assert_eq!(Source::read(text).types, ["A", "B", "D", "F"]);
    }
}
