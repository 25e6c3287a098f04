//! Refuses mirrors that a client cannot use, and names that are no registry, with what to do instead.

use super::MirrorUrl;

/// A client that cannot use this mirror, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unmirrorable(pub(super) String);

/// Whether it is a host, with or without a port, that is safe in any file; no pattern.
pub(super) fn is_host(name: &str) -> bool {
    let admitted = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    !name.is_empty() && name.chars().all(admitted) && !name.starts_with(['.', '-', '_', ':'])
}

/// The registries that are meant: a path that names a registry is for that one alone.
pub(super) fn one_path(mirror: &MirrorUrl, named: &[String]) -> Result<Vec<String>, Unmirrorable> {
    match (mirror.registry(), named) {
        (None, named) => Ok(named.to_vec()),
        (Some(own), []) => Ok(vec![own.to_owned()]),
        (Some(own), [one]) if one == own => Ok(vec![own.to_owned()]),
        (Some(own), _) => Err(Unmirrorable(format!(
            "{mirror} is a mirror of {own} alone: leave the path out for other registries, --mirror {}",
            mirror.base()
        ))),
    }
}

pub(super) fn refuse_path(mirror: &MirrorUrl, who: &str) -> Result<(), Unmirrorable> {
    if !mirror.has_path() {
        return Ok(());
    }
    Err(Unmirrorable(format!("{who} takes no mirror with a path: give the mirror a host name or a port of its own")))
}

pub(super) fn refuse_root(mirror: &MirrorUrl, who: &str) -> Result<(), Unmirrorable> {
    if mirror.root().is_empty() {
        return Ok(());
    }
    Err(Unmirrorable(format!(
        "{who} takes no mirror whose /v2/ is below a path: give it a host name or a port of its own"
    )))
}
