//! Parses the class of an `Accept` header.
//!
//! A registry's answer for a tag depends on what the client accepts: an index for one, a single manifest for another. So
//! the answer for a tag is cached by the class of the `Accept` header that it came for, never by the tag alone.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, LazyLock};

use crate::oci::media_type::{KNOWN, MediaType, bare};

/// The part of a client's `Accept` that can change a registry's answer: the set of known types and `*/*`, and which other
/// types there are ([`OtherTypes`]). It prints as the header that is sent upstream, so that all clients that share an
/// answer have sent exactly the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Accept {
    known: u8,
    /// Stands for the other types; 0 for none.
    others: u64,
}

/// The types of a client's `Accept` that are not known here, as they are sent upstream: some registries answer 404 to
/// whoever does not name the type of what they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherTypes(Option<Arc<str>>);

const ANY: u8 = 1 << 7;
/// More types than this are ignored, as are longer ones: a class is kept in memory for each tag.
const OTHERS: usize = 8;
const OTHER_LENGTH: usize = 100;

impl Accept {
    /// All known types, and any other.
    pub const EVERYTHING: Self = Self { known: ANY | 0b111_1111, others: 0 };

    /// Stands for no request, but for a push: what a registry answers to whoever accepts the type that was pushed.
    pub const AS_PUSHED: Self = Self { known: 0, others: u64::MAX };

    /// Parses all values of the `Accept` headers of one request. No header means `*/*` (RFC 9110, 12.5.1). A type with a
    /// weight of 0 is not accepted (12.4.2); other weights are the client's preference and are ignored.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        Self::parse_all(values).0
    }

    /// The same, with the types that are not known here.
    pub fn parse_all<'a>(values: impl IntoIterator<Item = &'a str>) -> (Self, OtherTypes) {
        let mut class = 0;
        let mut seen = false;
        let mut others = Vec::new();
        for item in values.into_iter().flat_map(|value| value.split(',')) {
            seen = true;
            let bare = bare(item);
            if item.split(';').skip(1).any(is_zero_weight) {
                continue;
            }
            if bare == "*/*" || bare.eq_ignore_ascii_case("application/*") {
                class |= ANY;
            } else if let Some(known) = MediaType::parse(bare) {
                class |= 1 << known as u8;
            } else if is_other(bare) {
                others.push(bare);
            }
        }
        let others = OtherTypes::of(others);
        (Self { known: if seen { class } else { ANY }, others: others.number() }, others)
    }

    /// Prints the header of this class, with the other types if it is their class.
    #[must_use]
    pub fn header(self, others: &OtherTypes) -> String {
        match &others.0 {
            Some(names) if self.others == others.number() && self.known == 0 => names.to_string(),
            Some(names) if self.others == others.number() => format!("{self}, {names}"),
            _ => self.to_string(),
        }
    }

    /// The same class with these other types.
    #[must_use]
    pub fn with(self, others: &OtherTypes) -> Self {
        Self { others: others.number(), ..self }
    }

    /// Whether it has types that are not known here. Such a class has no [`Accept::code`] of its own.
    #[must_use]
    pub fn has_others(self) -> bool {
        self.others != 0
    }

    /// Whether the client accepts an answer of this type.
    #[must_use]
    pub fn admits(self, media_type: MediaType) -> bool {
        self.known & (ANY | 1 << media_type as u8) != 0
    }

    /// A number for the known types of the class that is stable across versions, for keys on disk.
    #[must_use]
    pub fn code(self) -> u8 {
        self.known
    }

    /// The class for a number from [`Accept::code`].
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self { known: code, others: 0 }
    }
}

impl OtherTypes {
    fn of(mut names: Vec<&str>) -> Self {
        if names.is_empty() {
            return Self(None);
        }
        names.sort_unstable();
        names.dedup();
        names.truncate(OTHERS);
        Self(Some(names.join(", ").into()))
    }

    /// Two lists of types have the same number only by chance: its key is this process's own.
    fn number(&self) -> u64 {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        self.0.as_ref().map_or(0, |names| KEY.hash_one(&**names).max(1))
    }
}

/// Whether it names one type that a manifest may have. `application/json` says nothing of one: Docker always sends it.
fn is_other(bare: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let is_kind = |part: &str| part.eq_ignore_ascii_case("application");
    bare.len() <= OTHER_LENGTH
        && !bare.eq_ignore_ascii_case("application/json")
        && bare.split_once('/').is_some_and(|(kind, name)| is_kind(kind) && is_name(name))
}

/// Whether a parameter is `q=0`, in any spelling.
fn is_zero_weight(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim();
    name.trim().eq_ignore_ascii_case("q") && value.starts_with('0') && value.bytes().all(|byte| b".0".contains(&byte))
}

impl fmt::Display for Accept {
    /// Prints a header value of this class. A class without known types prints a type outside of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.known == 0 {
            return f.write_str("application/json");
        }
        let known = KNOWN.iter().filter(|(known, _)| self.known & 1 << *known as u8 != 0).map(|(_, name)| *name);
        let any = (self.known & ANY != 0).then_some("*/*");
        for (position, name) in known.chain(any).enumerate() {
            if position > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_case_and_weights_do_not_change_the_class() {
        let one = class(&["application/vnd.oci.image.index.v1+json, */*;q=0.1"]);
        let two = class(&["*/*", "Application/Vnd.OCI.image.index.v1+json;q=0.5, application/json"]);
        assert_eq!(one, two);
        assert_ne!(one, class(&["*/*"]));
        assert_eq!(class(&[]), class(&["*/*"]));
    }

    fn class(values: &[&str]) -> Accept {
        Accept::parse(values.iter().copied())
    }

    #[test]
    fn other_types_make_a_class_of_their_own_and_are_sent() {
        let (list, other) = (MediaType::DockerList.as_str(), "application/vnd.acme.model.v1+json");
        let (one, types) = Accept::parse_all([format!("{other}, {list};q=0.5, application/x-y").as_str()]);
        assert_eq!(one.header(&types), format!("{list}, {other}, application/x-y"));
        assert_eq!(one, class(&[list, "application/x-y, application/x-y", other]));
        assert_eq!((one.code(), one.has_others()), (class(&[list]).code(), true));
        for fewer in [&[list][..], &[list, other], &[list, other, "application/x-z"], &["application/x-y", other]] {
            assert_ne!(one, class(fewer), "{fewer:?}");
        }
        assert_eq!(
            Accept::EVERYTHING.with(&types).header(&types),
            format!("{}, {other}, application/x-y", Accept::EVERYTHING)
        );
        assert_eq!(class(&[list]).header(&types), list, "not those of another class");
        let (none, types) = Accept::parse_all([other]);
        assert_eq!(none.header(&types), other);
    }

    #[test]
    fn what_is_no_type_is_not_sent_and_what_is_sent_has_an_end() {
        let long = format!("application/{}", "y".repeat(100));
        for odd in [
            "application/json",
            "x",
            "application/",
            "/y",
            "application/y z",
            "application/y\"",
            "text/*",
            "text/html",
            "application/y/z",
            long.as_str(),
            "",
        ] {
            assert_eq!(Accept::parse_all([odd]).1, OtherTypes::default(), "{odd}");
        }
        let many: Vec<String> = (0..100).map(|number| format!("application/{number}")).collect();
        let (class, types) = Accept::parse_all([many.join(",").as_str()]);
        assert_eq!(class.header(&types).split(", ").count(), OTHERS);
    }

    #[test]
    fn what_has_no_weight_is_not_accepted() {
        let (list, manifest) = (MediaType::DockerList.as_str(), MediaType::DockerManifest.as_str());
        let only = class(&[manifest]);
        for zero in ["q=0", " q=0.000", "Q=0.", "q = 0", "x=1; q=0"] {
            assert_eq!(class(&[&format!("{manifest}, {list};{zero}")]), only, "{zero}");
            let none = class(&[&format!("{manifest};{zero}")]);
            assert_eq!((none.code(), none.to_string().as_str()), (0, "application/json"), "{zero}");
        }
        for some in ["q=0.001", "q=1", "q=", "x", "q", "q=0x"] {
            assert_ne!(class(&[&format!("{manifest}, {list};{some}")]), only, "{some}");
        }
    }

    #[test]
    fn a_class_prints_a_header_of_its_own_class() {
        for code in 0..=255_u8 {
            let printed = Accept::from_code(code).to_string();
            assert_eq!(class(&[&printed]), Accept::from_code(code));
        }
    }

    #[test]
    fn admits_what_was_named_or_anything() {
        let manifest_only = class(&[MediaType::DockerManifest.as_str()]);
        assert!(manifest_only.admits(MediaType::DockerManifest));
        assert!(!manifest_only.admits(MediaType::OciIndex));
        assert!(class(&[]).admits(MediaType::OciIndex));
    }
}
