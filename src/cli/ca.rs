//! Implements `pullthrough ca`: creates the CA, shows it, and removes the root key from the machine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use super::flags::{Print, print_json};
use crate::ca::{CertificateAuthority, Config, Issuing, Overview, Permitted, RootKey};

/// A command on the local certificate authority.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CaCommand {
    /// Create the CA now instead of at the first start
    Init,
    /// Show the fingerprint and the validity of the CA, and what it may sign for
    Show {
        /// Text or JSON.
        #[command(flatten)]
        print: Print,
    },
    /// Export the private key of the root and remove it from this machine
    Seal {
        /// Write the key to this new file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Runs `command` on the folder of `config`; `permitted` lists the names that the configuration needs certificates for.
///
/// # Errors
/// An error of the CA, with the file concerned, or of writing to `out`.
pub fn run(command: &CaCommand, config: &Config, permitted: &Permitted, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        CaCommand::Init => init(config, permitted, out),
        CaCommand::Show { print } => show(&config.dir, permitted, *print, out),
        CaCommand::Seal { out: file } => seal(config, permitted, file.as_deref(), out),
    }
}

fn init(config: &Config, permitted: &Permitted, out: &mut dyn Write) -> anyhow::Result<()> {
    let there = Overview::read(&config.dir)?.is_some();
    let authority = CertificateAuthority::open(config, permitted)?;
    let certificate = config.dir.join("ca.crt");
    let words = if there { "the CA already exists" } else { "created a CA" };
    writeln!(out, "{words}; clients must trust {}", certificate.display())?;
    writeln!(out, "fingerprint (SHA-256): {}", authority.fingerprint())?;
    Ok(())
}

fn show(dir: &Path, permitted: &Permitted, print: Print, out: &mut dyn Write) -> anyhow::Result<()> {
    let overview = Overview::read(dir)?.with_context(|| {
        format!("there is no CA in {}: run pullthrough ca init, or pullthrough serve", dir.display())
    })?;
    if print.json {
        return Ok(print_json(out, &as_json(&overview, permitted))?);
    }
    writeln!(out, "root         {}", overview.root)?;
    writeln!(out, "fingerprint  {}", overview.fingerprint)?;
    writeln!(out, "valid        {} to {}", time(overview.validity.from), time(overview.validity.until))?;
    if let Some(notice) = overview.expired_notice(dir, SystemTime::now()) {
        writeln!(out, "warning      {notice}")?;
    }
    if let Some(notice) = overview.strict_notice(dir) {
        writeln!(out, "warning      {notice}")?;
    }
    let key =
        if overview.sealed { "sealed: not on this machine" } else { "on this machine; pullthrough ca seal removes it" };
    writeln!(out, "root key     {key}")?;
    let Some(issuing) = &overview.issuing else {
        writeln!(out, "issuing      does not exist yet; it is created at the next start")?;
        return Ok(());
    };
    writeln!(out, "issuing      {}", issuing.subject)?;
    writeln!(out, "valid        {} to {}", time(issuing.validity.from), time(issuing.validity.until))?;
    for domain in issuing.domains() {
        writeln!(out, "covers       {domain} and its subdomains")?;
    }
    for network in issuing.networks() {
        writeln!(out, "covers       {network}")?;
    }
    for wanted in issuing.lacks(permitted) {
        writeln!(out, "not covered  {wanted}: {}", fix(&overview))?;
    }
    Ok(())
}

fn fix(overview: &Overview) -> &'static str {
    if overview.sealed {
        "put ca.key back for one start, then seal again"
    } else {
        "it will be covered from the next start"
    }
}

fn as_json(overview: &Overview, permitted: &Permitted) -> serde_json::Value {
    let issuing = |issuing: &Issuing| {
        json!({
            "subject": issuing.subject,
            "not_before": time(issuing.validity.from),
            "not_after": time(issuing.validity.until),
            "domains": issuing.domains().collect::<Vec<_>>(),
            "networks": issuing.networks().map(|network| network.to_string()).collect::<Vec<_>>(),
            "not_covered": issuing.lacks(permitted),
        })
    };
    json!({
        "root": {
            "subject": overview.root,
            "fingerprint_sha256": overview.fingerprint,
            "not_before": time(overview.validity.from),
            "not_after": time(overview.validity.until),
            "strict_faults": overview.strict_faults,
        },
        "sealed": overview.sealed,
        "issuing": overview.issuing.as_ref().map(issuing),
    })
}

fn seal(config: &Config, permitted: &Permitted, file: Option<&Path>, out: &mut dyn Write) -> anyhow::Result<()> {
    let missing =
        || format!("there is no CA in {}: run pullthrough ca init, or pullthrough serve", config.dir.display());
    Overview::read(&config.dir)?.with_context(missing)?;
    let Some(key) = RootKey::take(config, permitted)? else {
        writeln!(out, "the CA is already sealed: the root key is not in {}", config.dir.display())?;
        return Ok(());
    };
    match file {
        Some(file) => {
            key.write_to(file)?;
            writeln!(out, "wrote the root key to {}: {KEEP}", file.display())?;
        }
        None => write!(out, "The root key, shown only this once: {KEEP}\n\n{}", key.pem())?,
    }
    out.flush()?;
    key.remove()?;
    let path = config.dir.join("ca.key");
    writeln!(
        out,
        "\nremoved {}. To cover a new registry, put the key back there (mode 0600) and start the proxy.",
        path.display()
    )?;
    Ok(())
}

/// RFC 3339, seconds.
fn time(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

const KEEP: &str = "keep it off this machine and off the network, in a password store or on a medium in a safe. \
    Anyone who has it can impersonate any site to every client that trusts the CA.";
