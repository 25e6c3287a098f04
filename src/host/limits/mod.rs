//! Divides what this process may use, and counts what is in use.
//!
//! Flow: at start, [`budget::Budget`] divides the limit on open files and the memory (`memory`) among connections, blobs,
//! requests and buffers. A [`limit::Limit`] counts one kind of thing and refuses more than its share; [`buffers::Buffers`]
//! counts the bytes that wait for clients and refuses nothing. [`spare::Spare`] keeps two open files in reserve, so that
//! metrics and control commands are still answered when none is left.
//! Scope: numbers. Who is refused, and with which answer, is decided by the rooms above.
//! Never: wait for a lock; promise more files than the process may open.
//! Reading: getrlimit(2), cgroups(7), docs/operations.md on sizing.

pub(crate) mod budget;
pub(crate) mod buffers;
pub(crate) mod limit;
pub(crate) mod memory;
pub(crate) mod spare;
