//! A folder that belongs to somebody else: the error says who this is and how to give it the folder.
//!
//! A container's volume made by root is the usual case.

use std::io;
use std::path::PathBuf;

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

/// Adds the cure to an error that came of a folder which may not be written; others are left as they are.
pub(super) fn with_fix(error: anyhow::Error, folders: &[PathBuf]) -> anyhow::Error {
    let denied = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if !denied.into_iter().any(|cause| cause.kind() == io::ErrorKind::PermissionDenied) {
        return error;
    }
    let closed = folders.iter().find(|folder| {
        folder.is_dir() && access(folder.as_path(), Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).is_err()
    });
    let Some(folder) = closed else { return error };
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let folder = folder.display();
    error.context(format!(
        "{folder} is not writable for the user {user} that this runs as: run chown -R {user}:{group} on that folder"
    ))
}
