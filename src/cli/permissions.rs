//! Explains a permission error on a folder: names the user that runs the program and the command that fixes it.
//!
//! The usual case is a container's volume that root created.

use std::io;
use std::path::PathBuf;

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

/// Adds the fix to an error that an unwritable folder has caused; leaves other errors unchanged.
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
        "{folder} is not writable by user {user}, which pullthrough runs as: run chown -R {user}:{group} on that directory"
    ))
}
