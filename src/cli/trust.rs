//! Implements `pullthrough trust`: adds the CA to this machine's trust store, removes it, or shows whether it is trusted.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Subcommand;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::flags::{Print, print_json};
use crate::setup::{TRUST_STORES, TrustStore};

/// A command on the trust store.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum TrustCommand {
    /// Add the CA to the trust store; needs root
    Install,
    /// Remove the CA from the trust store; needs root
    Remove,
    /// Show whether the CA is trusted
    Status {
        /// Text or JSON.
        #[command(flatten)]
        print: Print,
    },
}

/// Runs `command` for the CA certificate in `ca`, on this system or on the one whose root folder is `root`.
///
/// # Errors
/// A missing CA, an unknown trust store, a file or a command that failed; for `status` also a CA that is not trusted.
pub fn run(command: &TrustCommand, ca: &Path, root: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    let store = Store::of(root)?;
    match command {
        TrustCommand::Install => {
            let pem = certificate(ca)?;
            fs::create_dir_all(store.folder())
                .with_context(|| format!("cannot create {}", store.folder().display()))?;
            fs::write(store.file(), pem)
                .with_context(|| format!("cannot write {} (as root?)", store.file().display()))?;
            store.update()?;
            writeln!(
                out,
                "trusted: {}; daemons read the trust store only once, so restart them",
                store.file().display()
            )?;
        }
        TrustCommand::Remove => match fs::remove_file(store.file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                writeln!(out, "nothing to remove: the CA is not in the trust store")?
            }
            removed => {
                removed.with_context(|| format!("cannot remove {} (as root?)", store.file().display()))?;
                store.update()?;
                writeln!(out, "no longer trusted; daemons read the trust store only once, so restart them")?;
            }
        },
        TrustCommand::Status { print } => status(&store, ca, *print, out)?,
    }
    Ok(())
}

/// Returns an error if the CA is not trusted, with JSON output too.
fn status(store: &Store, ca: &Path, print: Print, out: &mut dyn Write) -> anyhow::Result<()> {
    let doubt = doubt(store, &certificate(ca)?)?;
    let file = store.file();
    if print.json {
        let found = doubt.as_ref().map(|words| format!("{} {words}", file.display()));
        print_json(
            out,
            &json!({"trusted": doubt.is_none(), "family": store.family.name, "file": file, "found": found}),
        )?;
    }
    match doubt {
        Some(words) => bail!("{} {words}: run pullthrough trust install", file.display()),
        None if print.json => Ok(()),
        None => Ok(writeln!(out, "trusted: {}", file.display())?),
    }
}

/// Says what is wrong with the file in the store; `None` if nothing is.
fn doubt(store: &Store, ours: &[u8]) -> anyhow::Result<Option<&'static str>> {
    Ok(match fs::read(store.file()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some("does not exist"),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", store.file().display())),
        Ok(there) if der(&there) != der(ours) => Some("holds another CA"),
        Ok(_) if store.root.is_none() && !believed(ours) => {
            Some("exists, but the system's CA bundle does not include it")
        }
        Ok(_) => None,
    })
}

/// Whether the bundle that programs read includes it.
fn believed(ours: &[u8]) -> bool {
    let ours = der(ours);
    rustls_native_certs::load_native_certs().certs.iter().any(|one| Some(one) == ours.as_ref())
}

fn certificate(ca: &Path) -> anyhow::Result<Vec<u8>> {
    let missing = || format!("there is no CA at {}: run pullthrough ca init, or name the file with --ca", ca.display());
    let pem = fs::read(ca).with_context(missing)?;
    let blocks = String::from_utf8_lossy(&pem).matches("-----BEGIN").count();
    if blocks != 1 || der(&pem).is_none() {
        bail!("{} does not contain exactly one certificate", ca.display());
    }
    Ok(pem)
}

fn der(pem: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem).ok()
}

struct Store {
    family: TrustStore,
    root: Option<PathBuf>,
}

impl Store {
    fn of(root: Option<&Path>) -> anyhow::Result<Self> {
        let store = |family| Self { family, root: root.map(Path::to_owned) };
        let [first @ .., last] = TRUST_STORES;
        let found = TRUST_STORES.into_iter().map(store).find(|store| store.folder().is_dir());
        let tool = Path::new("/usr/sbin").join(last.update);
        found.or_else(|| Some(store(last)).filter(|store| store.below(&tool).exists())).with_context(|| {
            format!("found no known trust store ({}): install the package ca-certificates", names(&first, &last))
        })
    }

    fn below(&self, path: &Path) -> PathBuf {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn folder(&self) -> PathBuf {
        self.below(Path::new(self.family.folder))
    }

    fn file(&self) -> PathBuf {
        self.below(Path::new(&self.family.file()))
    }

    fn update(&self) -> anyhow::Result<()> {
        let update = self.family.update;
        let mut command = match &self.root {
            None => Command::new(update),
            Some(root) => {
                let mut chroot = Command::new("chroot");
                chroot.arg(root).arg(update);
                chroot
            }
        };
        let done =
            command.output().with_context(|| format!("cannot run {update}: install the package ca-certificates"))?;
        if !done.status.success() {
            bail!("{update} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(())
    }
}

fn names(first: &[TrustStore], last: &TrustStore) -> String {
    let names: Vec<&str> = first.iter().chain([last]).map(|family| family.name).collect();
    names.join("; ")
}
