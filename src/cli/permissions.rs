//! Explains a permission error on a folder: names what forbids the user that runs the program to use it, and the command that
//! fixes it.
//!
//! The usual case is a container's volume that root created.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};

use rustix::fs::{Access, AtFlags, CWD, StatxAttributes, StatxFlags, access, statx};
use rustix::process::{getegid, geteuid};

use crate::{ca, store};

/// Adds the fix to an error that an unwritable folder has caused; leaves other errors unchanged.
pub(super) fn with_fix(error: anyhow::Error, folders: &[PathBuf]) -> anyhow::Error {
    let denied = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if !denied.into_iter().any(|cause| cause.kind() == io::ErrorKind::PermissionDenied) {
        return error;
    }
    let place = error.chain().find_map(place).and_then(|path| absolute(path).ok());
    let is_meant = |folder: &&PathBuf| {
        absolute(folder).is_ok_and(|folder| place.as_ref().is_some_and(|place| place.starts_with(folder)))
    };
    let (meant, others): (Vec<&PathBuf>, Vec<&PathBuf>) = folders.iter().partition(is_meant);
    let fix = meant.iter().find_map(|folder| fix(folder, place.as_deref()));
    match fix.or_else(|| others.iter().find_map(|folder| self::fix(folder, None))) {
        Some(fix) => error.context(fix),
        None => error,
    }
}

/// The file or folder that an error is about.
fn place<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Path> {
    match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(store::Error::Io { path, .. }), _) | (_, Some(ca::Error::Io { path, .. })) => Some(path),
        _ => None,
    }
}

/// What is wrong with `folder`, or with the `place` in it.
fn fix(folder: &Path, place: Option<&Path>) -> Option<String> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let shown = folder.display();
    if !folder.exists() {
        let missing = format!(
            "user {user}, which pullthrough runs as, may not make {shown}: as root, run mkdir -p {shown} && chown \
             {user}:{group} {shown}"
        );
        return place.map(|_| missing);
    }
    // Not even root may write to these, and no owner or mode says so.
    let attributed = [Some(folder), place, place.and_then(Path::parent)].into_iter().flatten();
    for path in attributed {
        for (attribute, letter, word) in
            [(StatxAttributes::IMMUTABLE, 'i', "immutable"), (StatxAttributes::APPEND, 'a', "append-only")]
        {
            if statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
                .is_ok_and(|found| found.stx_attributes.contains(attribute))
            {
                let path = path.display();
                return Some(format!("{path} is {word} (attribute {letter}): as root, run chattr -R -{letter} {path}"));
            }
        }
    }
    if access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return None;
    }
    let is_owner = fs::metadata(folder).is_ok_and(|metadata| metadata.uid() == user && user != 0);
    let how = if is_owner { "chmod u+rwx".to_owned() } else { format!("chown -R {user}:{group}") };
    Some(format!("{shown} is not writable by user {user}, which pullthrough runs as: run {how} on that directory"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// An error about `path`, explained.
    fn explained(path: &Path, folders: &[PathBuf]) -> String {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = store::Error::Io { doing: "create", path: path.to_owned(), source };
        with_fix(error.into(), folders).to_string()
    }

    #[test]
    fn a_folder_that_is_missing_is_to_be_made_for_this_user() {
        let root = tempfile::tempdir().unwrap();
        let (there, missing) = (root.path().join("cache"), root.path().join("ca"));
        fs::create_dir(&there).unwrap();
        let words = explained(&missing, &[there, missing.clone()]);
        let expected = format!("run mkdir -p {0} && chown {1}:", missing.display(), geteuid().as_raw());
        assert!(words.contains(&expected), "{words}");
    }

    #[test]
    fn an_immutable_folder_is_named_with_its_attribute_and_no_owner() {
        struct Mutable<'a>(&'a Path);
        impl Drop for Mutable<'_> {
            fn drop(&mut self) {
                let _ = Command::new("chattr").arg("-i").arg(self.0).status(); // the folder can be removed then
            }
        }
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("cache");
        fs::create_dir(&folder).unwrap();
        assert!(
            !explained(&folder.join("lock"), std::slice::from_ref(&folder)).contains("run "),
            "nothing is wrong with it"
        );
        let _again = Mutable(&folder);
        let set = Command::new("chattr").arg("+i").arg(&folder).output();
        if !set.is_ok_and(|set| set.status.success()) {
            return eprintln!("no attribute can be set here: its explanation is left out");
        }
        let words = explained(&folder.join("lock"), std::slice::from_ref(&folder));
        assert_eq!(words, format!("{0} is immutable (attribute i): as root, run chattr -R -i {0}", folder.display()));
    }
}
