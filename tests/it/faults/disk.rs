//! A disk that is full, read-only, emptied below the program, slow, or that fails at reading and writing.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::Lab;
use super::net::digests;
use crate::support::{Plan, program, until};

/// A small file system of its own at a folder, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(folder: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output();
        let is_mounted = mount.is_ok_and(|mount| mount.status.success());
        if !is_mounted {
            eprintln!("not run: a file system can be mounted by root alone, with CAP_SYS_ADMIN");
        }
        is_mounted.then(|| Self(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Writes until not one byte more goes in.
fn fill(path: &Path) {
    let mut ballast = File::options().create(true).append(true).open(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
}

#[tokio::test]
async fn with_a_full_disk_everything_pulls_and_it_heals_by_itself() {
    let mut mounted = None;
    let mut lab = Lab::start(|folder| mounted = Mounted::at(&folder.join("cache"), "size=8m,mode=700")).await;
    let Some(mounted) = mounted else { return };
    let ballast = mounted.0.join("ballast");
    until("it is full", async || {
        fill(&ballast);
        lab.pull("cold", &lab.cold).await;
        lab.proxy.metric("pullthrough_disk_trouble").await == 1.0
    })
    .await;
    lab.pull("warm", &lab.warm).await; // stored still, or evicted to make room
    assert_eq!(lab.readiness().await, 503);
    fs::remove_file(&ballast).unwrap();
    until("it is well", async || lab.proxy.metric("pullthrough_disk_trouble").await == 0.0).await;
    assert_eq!(lab.readiness().await, 200);
    until("it stores again", async || {
        lab.pull("cold", &lab.cold).await;
        digests(&lab.cold).all(|digest| lab.proxy.blob_file(digest).exists())
    })
    .await;
    lab.proxy.stop().await;
}

#[tokio::test]
async fn what_somebody_removed_below_the_program_is_fetched_again() {
    let lab = Lab::start(|_| ()).await;
    for digest in digests(&lab.warm) {
        fs::remove_file(lab.proxy.blob_file(digest)).unwrap();
    }
    lab.pull("warm", &lab.warm).await;
    lab.pull("warm", &lab.warm).await;
    assert_eq!(lab.downloads(&lab.warm), 1);
    for digest in lab.warm.layers.iter().chain([&lab.warm.config]) {
        lab.proxy.stored(digest).await; // the manifest is served from memory
    }
}

#[tokio::test]
async fn with_its_folders_gone_everything_pulls() {
    let lab = Lab::start(|_| ()).await;
    for folder in ["cache/blobs", "cache/fills"] {
        fs::remove_dir_all(lab.proxy.folder().join(folder)).unwrap();
    }
    for _ in 0..2 {
        lab.pull("warm", &lab.warm).await;
        lab.pull("cold", &lab.cold).await;
    }
}

#[tokio::test]
async fn where_a_blob_cannot_be_read_it_is_fetched_again() {
    let lab = Lab::start(|_| ()).await;
    for digest in &lab.warm.layers {
        let file = lab.proxy.blob_file(digest);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap(); // a file that cannot be read, whoever reads it
    }
    lab.pull("warm", &lab.warm).await;
    assert_eq!(lab.downloads(&lab.warm), 1);
}

#[test]
fn a_read_only_folder_is_no_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_mounted) = Mounted::at(&folder.path().join("cache"), "ro,size=1m") else { return };
    let yaml = Plan::new().yaml(folder.path());
    fs::write(folder.path().join("pullthrough.yaml"), yaml).unwrap();
    let told = program(folder.path()).args(["serve", "--config", "pullthrough.yaml"]).output().unwrap();
    let text = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success(), "{text}");
    assert!(text.contains("cache") && text.contains("Read-only file system"), "{text}");
}
