//! An ill disk: what is stored is served, nothing committed is lost, it is said so, and it ends without a restart.

use std::io::{self};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use pullthrough::store::{Disk, Error, Step, Store, Trouble, Witness};

use crate::store::{bytes, config, content, digest, eventually};

/// Answers every step of one kind with an error of the system, while there is one.
struct Ill {
    errno: AtomicI32,
    hits: fn(&Step<'_>) -> bool,
}

impl Witness for Ill {
    fn before(&self, step: &Step<'_>) -> io::Result<()> {
        match self.errno.load(Ordering::SeqCst) {
            errno if errno != 0 && (self.hits)(step) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

#[test]
fn each_step_may_fail_in_each_way_and_is_well_again_without_a_restart() {
    type Hits = fn(&Step<'_>) -> bool;
    let steps: [(&str, Hits); 5] = [
        ("create", |step| matches!(step, Step::Create(_))),
        ("write", |step| matches!(step, Step::Write(..))),
        ("sync", |step| matches!(step, Step::SyncFile(_))),
        ("rename", |step| matches!(step, Step::Rename(..) | Step::SyncFile(_))),
        ("sync of the folder", |step| matches!(step, Step::SyncFolder(_))),
    ];
    let errors = [(EIO, Trouble::Failing), (ENOSPC, Trouble::Full), (EROFS, Trouble::ReadOnly)];
    std::thread::scope(|scope| {
        for (what, hits) in steps {
            scope.spawn(move || errors.iter().for_each(|(errno, trouble)| suffer(what, hits, *errno, *trouble)));
        }
    });
}

fn suffer(what: &str, hits: fn(&Step<'_>) -> bool, errno: i32, trouble: Trouble) {
    let folder = tempfile::tempdir().unwrap();
    let ill = Arc::new(Ill { errno: 0.into(), hits });
    let store = Store::open_on(&config(folder.path(), 1 << 20), Disk::watched(ill.clone())).unwrap();
    let (old, new) = (content(1, 1000), content(2, 1000));
    let held = store.put(&digest(&old), &old).unwrap();
    assert_eq!(store.trouble(), None);
    ill.errno.store(errno, Ordering::SeqCst);
    let error = store.put(&digest(&new), &new).unwrap_err();
    assert_eq!(error.trouble(), Some(trouble), "{what}: {error}");
    assert_eq!(matches!(error, Error::Full { .. }), trouble == Trouble::Full, "{what}: {error}");
    assert_eq!(store.trouble(), Some(trouble), "{what}");
    assert_eq!(bytes(&store.read(&digest(&old)).unwrap().unwrap()), old, "{what}: what is stored is served");
    ill.errno.store(0, Ordering::SeqCst);
    eventually("the end of the trouble", || store.trouble().is_none());
    assert_eq!(bytes(&store.put(&digest(&new), &new).unwrap()), new, "{what}");
    store.close();
    assert_eq!(bytes(&held), old);
    let store = Store::open(&config(folder.path(), 1 << 20)).unwrap();
    for whole in [&old, &new] {
        assert_eq!(bytes(&store.read(&digest(whole)).unwrap().unwrap()), *whole, "{what}");
    }
}
