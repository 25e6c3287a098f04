//! Implements `pullthrough setup CLIENT`: prints or writes the exact configuration for one client.

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
use crate::setup::{self, ClientKind, Merge, MirrorUrl, OnMirror, ProxyUrl, SetupPlan, Written};

/// The client, and the proxy that it will use.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct SetupFlags {
    /// Client to set up: docker, containerd, podman, skopeo, buildah, crio, buildkit, k3s, rke2, microk8s, kind, gitlab-runner or env
    #[arg(value_name = "CLIENT")]
    client: ClientKind,
    /// Proxy address as this client reaches it [default: the value of `PULLTHROUGH_PROXY`, else the configured address]
    #[arg(long, value_name = "URL")]
    proxy: Option<ProxyUrl>,
    /// Mirror address as this client reaches it: the client asks it for images itself, and uses no proxy. For one registry alone,
    /// <http://mirror.example:5000/quay.io> and <http://mirror.example:5000/v2/quay.io> are the same
    #[arg(long, value_name = "URL", conflicts_with = "proxy")]
    mirror: Option<MirrorUrl>,
    /// Registry to mirror, repeatable [default: all that the client can mirror, else those of the configuration]
    #[arg(long, value_name = "HOST", requires = "mirror")]
    registry: Vec<String>,
    /// Write the configuration, trust the CA and restart the client; needs root
    #[arg(long)]
    apply: bool,
    /// Take back what --apply wrote: name the same --mirror and --registry; needs root
    #[arg(long, requires = "mirror", conflicts_with_all = ["apply", "json"])]
    undo: bool,
    /// Print the shell script that --apply runs
    #[arg(long, conflicts_with = "apply")]
    script: bool,
    /// Print the files, commands and notes as JSON
    #[arg(long, conflicts_with_all = ["apply", "script"])]
    json: bool,
    /// CA that signed the mirror's certificate where pullthrough's own did not (`mirror.tls`): a file with one or more certificates in PEM
    #[arg(long, value_name = "FILE", requires = "mirror")]
    ca_file: Option<PathBuf>,
    /// SHA-256 fingerprint of the CA, if the CA is not on this machine; `trusted` where this machine trusts the mirror's certificate already
    #[arg(long, value_name = "SHA256")]
    fingerprint: Option<String>,
    /// Root folder of another system to set up instead of this one
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// Merge the lists into the JSON of standard input, or take them out: set or undo
    #[arg(long, value_name = "MODE", hide = true, requires = "mirror")]
    merge: Option<String>,
}

/// Prints the configuration to `out`, or applies it.
///
/// # Errors
/// A client that no script can set up, an unknown CA, or a script that failed.
pub(super) fn run(flags: &SetupFlags, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(mirror) = &flags.mirror {
        return run_mirror(flags, mirror, settings, out);
    }
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
        bail!("{} cannot be set up automatically; run this without --apply or --script to see the steps", flags.client);
    };
    if flags.script {
        write!(out, "{script}")?;
        return Ok(());
    }
    apply(flags, settings, &script, ours)
}

/// The same for a mirror.
fn run_mirror(flags: &SetupFlags, mirror: &MirrorUrl, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let registries = settings.registries.iter().map(|registry| OnMirror::Registry(registry.name.to_string()));
    let names = settings.mirror.written_names().into_iter().map(|(name, registry)| OnMirror::Name { name, registry });
    let known: Vec<OnMirror> = registries.chain(names).collect();
    let plan = setup::mirror_plan(flags.client, mirror, &flags.registry, &known)?;
    if let Some(mode) = &flags.merge {
        let theirs = std::io::read_to_string(std::io::stdin())?;
        let how = if mode == "undo" { Merge::Undo } else { Merge::Set };
        let ours = plan.merged.first().context("this client has no JSON file")?;
        write!(out, "{}", setup::merge(&theirs, &ours.text, how)?)?;
        return Ok(());
    }
    if flags.json {
        return Ok(print_json(out, &as_json(flags.client, &plan))?);
    }
    if !flags.apply && !flags.undo && !flags.script {
        write!(out, "{}", setup::page(flags.client, &plan))?;
        return Ok(());
    }
    let script = setup::mirror_script(flags.client, mirror, &flags.registry, &known)?;
    if flags.script {
        write!(out, "{script}")?;
        return Ok(());
    }
    let mut shell = Command::new("sh");
    shell.env("PULLTHROUGH_PROGRAM", std::env::current_exe()?).arg("-s");
    if flags.undo {
        shell.args(["--", "undo"]);
    } else if mirror.is_tls() {
        if let Some(file) = &flags.ca_file {
            shell.env("PULLTHROUGH_CA_FILE", file);
        }
        shell.args(["--", &trusted(flags, settings)?]);
    } else if flags.ca_file.is_some() {
        bail!("--ca-file is for a mirror with https://");
    }
    feed(flags, shell, &script)
}

/// What the script is told of the CA that this client will trust for the mirror.
fn trusted(flags: &SetupFlags, settings: &Settings) -> anyhow::Result<String> {
    match (flags.fingerprint.clone().or_else(|| variable("PULLTHROUGH_FINGERPRINT")), &flags.ca_file) {
        (Some(named), _) => Ok(named),
        (None, Some(_)) => Ok("given".to_owned()),
        (None, None) if settings.mirror.tls.is_some() => bail!(
            "mirror.tls of this configuration is a certificate of your own, which clients do not trust by pullthrough's CA: \
             pass --ca-file with the CA that signed it, or --fingerprint trusted where this machine trusts it already"
        ),
        (None, None) => Overview::read(&settings.ca.dir)?.map(|ca| ca.fingerprint).context(
            "the CA's fingerprint is missing: run pullthrough ca show on the mirror's machine and pass it with \
             --fingerprint; --fingerprint trusted where this machine trusts the mirror's certificate already; or --ca-file \
             with the CA that signed the mirror's certificate, where pullthrough's own did not (mirror.tls)",
        ),
    }
}

/// In `files`, `text` is the whole content of a file of its own; in `lines`, it is added to a file of others; in `merged`, its
/// lists are merged into a JSON file of others. `ca` names where copies of the CA's certificate go.
fn as_json(client: ClientKind, plan: &SetupPlan) -> Value {
    let written = |one: &Written| json!({"path": one.path, "text": one.text, "only_with": one.only_with});
    json!({
        "client": client.to_string(),
        "can_apply": plan.scripted,
        "files": plan.files.iter().map(written).collect::<Vec<_>>(),
        "lines": plan.lines.iter().map(written).collect::<Vec<_>>(),
        "merged": plan.merged.iter().map(written).collect::<Vec<_>>(),
        "ca": plan.ca,
        "undo": plan.undo,
        "run": plan.run,
        "notes": plan.words,
        "secret": plan.secret,
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Runs the script with the CA of this machine if there is one, else with the given fingerprint.
fn apply(flags: &SetupFlags, settings: &Settings, script: &str, ours: bool) -> anyhow::Result<()> {
    let local = Overview::read(&settings.ca.dir)?.filter(|_| ours);
    let mut shell = Command::new("sh");
    shell.env_remove("PULLTHROUGH_PROXY"); // the script already contains the address to use
    match (flags.fingerprint.clone().or_else(|| variable("PULLTHROUGH_FINGERPRINT")), local) {
        (Some(fingerprint), _) => {
            shell.env("PULLTHROUGH_FINGERPRINT", fingerprint);
        }
        (None, Some(ca)) => {
            shell.env("PULLTHROUGH_FINGERPRINT", &ca.fingerprint);
            shell.env("PULLTHROUGH_CA_FILE", settings.ca.dir.join("ca.crt"));
        }
        (None, None) => bail!(
            "the CA's fingerprint is missing: run pullthrough ca show on the proxy's machine and pass it with --fingerprint"
        ),
    }
    shell.arg("-s");
    feed(flags, shell, script)
}

/// Runs the script in `shell`.
fn feed(flags: &SetupFlags, mut shell: Command, script: &str) -> anyhow::Result<()> {
    if let Some(root) = &flags.root {
        shell.env("PULLTHROUGH_ROOT", root);
    }
    let mut running = shell.stdin(Stdio::piped()).spawn().context("cannot start sh")?;
    if let Some(mut stdin) = running.stdin.take() {
        stdin.write_all(script.as_bytes()).context("cannot pass the script to sh")?;
    }
    let status = running.wait()?;
    if !status.success() {
        let how = if flags.undo { "taken back" } else { "set up" };
        bail!("{} was not {how}: see the messages above", flags.client);
    }
    Ok(())
}
