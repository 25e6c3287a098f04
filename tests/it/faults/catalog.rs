//! A catalog that is locked by another program, overwritten, removed, or read-only, while pulls go on.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;

use super::lab::Lab;
use crate::pull::layer;

impl Lab {
    fn file(&self, name: &str) -> PathBuf {
        self.proxy.folder().join("cache").join(name)
    }

    fn overwrite(&self) {
        let length = fs::metadata(self.file("catalog.sqlite")).unwrap().len();
        fs::write(self.file("catalog.sqlite"), layer(length as usize, 9)).unwrap();
    }

    fn remove(&self) {
        for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
            let _ = fs::remove_file(self.file(name));
        }
    }
}

#[tokio::test]
async fn while_another_program_locks_the_catalog_everything_pulls_and_is_noted_after() {
    let mut lab = Lab::start(|_| ()).await;
    let other = Connection::open(lab.file("catalog.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    lab.pull("warm", &lab.warm).await;
    lab.pull("cold", &lab.cold).await;
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    lab.all_stored(&lab.cold).await;
    lab.pull("cold", &lab.cold).await;
    lab.proxy.restart().await;
    lab.pull("warm", &lab.warm).await;
    lab.pull("cold", &lab.cold).await;
    assert_eq!((lab.downloads(&lab.warm), lab.downloads(&lab.cold)), (0, 1));
}

// Without its catalog the store does not know whose a content is. So the registry delivers it once more.

#[tokio::test]
async fn a_catalog_that_is_overwritten_or_removed_while_it_runs_costs_no_pull() {
    for how in [Lab::overwrite, Lab::remove] {
        let mut lab = Lab::start(|_| ()).await;
        how(&lab);
        lab.pull("warm", &lab.warm).await;
        lab.pull("cold", &lab.cold).await;
        assert_eq!(lab.downloads(&lab.warm), 0);
        lab.all_stored(&lab.cold).await;
        lab.proxy.restart().await;
        for _ in 0..2 {
            lab.pull("warm", &lab.warm).await;
            lab.pull("cold", &lab.cold).await;
        }
        // SQLite may have kept what was lost in its log.
        let downloads = (lab.downloads(&lab.warm), lab.downloads(&lab.cold));
        assert!([(0, 1), (1, 1), (1, 2), (0, 2)].contains(&downloads), "{downloads:?}");
    }
}

#[tokio::test]
async fn a_catalog_that_is_damaged_or_gone_at_start_costs_one_download() {
    for how in [Lab::overwrite, Lab::remove] {
        let mut lab = Lab::start(|_| ()).await;
        lab.proxy.stop().await;
        how(&lab);
        lab.proxy.restart().await;
        for _ in 0..2 {
            lab.pull("warm", &lab.warm).await;
        }
        assert_eq!(lab.downloads(&lab.warm), 1);
    }
}
