//! `pullthrough setup CLIENT`: the exact configuration of one client, printed or written.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::flags::print_json;
use crate::ca::Overview;
use crate::config::Settings;
use crate::host::reached_at;
use crate::setup::{self, ClientKind, ProxyUrl, SetupPlan, Written};

/// Which client, for which proxy.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct SetupFlags {
    /// The client: docker, containerd, podman, crio, buildkit, k3s, microk8s, kind, gitlab-runner or env
    #[arg(value_name = "CLIENT")]
    client: ClientKind,
    /// The proxy's address as this client reaches it [default: that of `PULLTHROUGH_PROXY`, else the configured address]
    #[arg(long, value_name = "URL")]
    proxy: Option<ProxyUrl>,
    /// Write the configuration, trust the CA and restart the client; as root
    #[arg(long)]
    apply: bool,
    /// Print the shell script that --apply runs
    #[arg(long, conflicts_with = "apply")]
    script: bool,
    /// Print the files, the commands and the notes as JSON
    #[arg(long, conflicts_with_all = ["apply", "script"])]
    json: bool,
    /// The CA's SHA-256 fingerprint, where the CA is not on this machine
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<String>,
    /// The root folder of another system that is set up instead of this one
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
}

/// Prints the configuration to `out`, or applies it.
///
/// # Errors
/// A client that no script can set up; a CA that is not known; what the script says.
pub(super) fn run(flags: &SetupFlags, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let variable = variable("PULLTHROUGH_PROXY").map(|text| text.parse().context("PULLTHROUGH_PROXY")).transpose()?;
    let named = flags.proxy.clone().or(variable);
    let ours = named.is_none();
    let proxy = match named {
        Some(proxy) => proxy,
        None => format!("http://{}", reached_at(settings.listen.proxy)).parse()?,
    };
    let plan = setup::plan(flags.client, &proxy);
    if flags.json {
        return Ok(print_json(out, &as_json(flags.client, &plan))?);
    }
    if !flags.apply && !flags.script {
        write!(out, "{}", setup::page(flags.client, &plan))?;
        return Ok(());
    }
    let Some(script) = setup::script(flags.client, &proxy, ours && settings.clients.htpasswd.is_some()) else {
        bail!("{} cannot be set up by a program; without --apply this prints what to do", flags.client);
    };
    if flags.script {
        write!(out, "{script}")?;
        return Ok(());
    }
    apply(flags, settings, &script, ours)
}

/// `text` is the whole of a file of ours in `files`, and what is added to somebody else's in `lines`.
fn as_json(client: ClientKind, plan: &SetupPlan) -> Value {
    let written = |one: &Written| json!({"path": one.path, "text": one.text, "only_with": one.only_with});
    json!({
        "client": client.to_string(),
        "can_apply": plan.scripted,
        "files": plan.files.iter().map(written).collect::<Vec<_>>(),
        "lines": plan.lines.iter().map(written).collect::<Vec<_>>(),
        "run": plan.run,
        "notes": plan.words,
        "secret": plan.secret,
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Runs the script, with the CA of this machine where it is here, else with the fingerprint that was given.
fn apply(flags: &SetupFlags, settings: &Settings, script: &str, ours: bool) -> anyhow::Result<()> {
    let local = Overview::read(&settings.ca.dir)?.filter(|_| ours);
    let mut shell = Command::new("sh");
    shell.env_remove("PULLTHROUGH_PROXY"); // the script was made for the address that counts
    match (flags.fingerprint.clone().or_else(|| variable("PULLTHROUGH_FINGERPRINT")), local) {
        (Some(fingerprint), _) => {
            shell.env("PULLTHROUGH_FINGERPRINT", fingerprint);
        }
        (None, Some(ca)) => {
            shell.env("PULLTHROUGH_FINGERPRINT", &ca.fingerprint);
            shell.env("PULLTHROUGH_CA_FILE", settings.ca.dir.join("ca.crt"));
        }
        (None, None) => bail!(
            "the CA's fingerprint is missing: pullthrough ca show prints it on the proxy's machine; give it by --fingerprint"
        ),
    }
    if let Some(root) = &flags.root {
        shell.env("PULLTHROUGH_ROOT", root);
    }
    let mut running = shell.args(["-s"]).stdin(Stdio::piped()).spawn().context("sh cannot be started")?;
    if let Some(mut stdin) = running.stdin.take() {
        stdin.write_all(script.as_bytes()).context("the script could not be handed to sh")?;
    }
    let status = running.wait()?;
    if !status.success() {
        bail!("{} was not set up: see the lines above", flags.client);
    }
    Ok(())
}
