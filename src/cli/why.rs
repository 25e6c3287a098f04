//! `pullthrough why IMAGE`: what a pull of this image meets here, and for which reason.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::cache::{ago, carry_out, count, size};
use super::flags::{Print, print_json};
use crate::cache::{Event, Order, Part, Shown, TagPolicy};
use crate::config::Settings;
use crate::host::Period;
use crate::oci::{Authority, ImageName, Reference};
use crate::proxy::{Auth, Push, RegistrySettings};

/// Which image.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct WhyFlags {
    /// The image, such as quay.io/org/app:1
    #[arg(value_name = "IMAGE")]
    image: ImageName,
    #[command(flatten)]
    print: Print,
}

/// Explains on `out` what the configuration and the cache say of the image.
///
/// # Errors
/// A name that is no image; what the cache says, such as that it does not know it.
pub(super) fn run(flags: &WhyFlags, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let ImageName::Image(registry, repository, reference) = flags.image.clone().or_latest() else {
        bail!("that is no image; expected one such as quay.io/org/app:1");
    };
    let name =
        format!("{registry}/{repository}{}{reference}", if matches!(reference, Reference::Tag(_)) { ':' } else { '@' });
    let Some(entry) = entry(settings, &registry) else {
        bail!("{registry} is no registry of this configuration: it is only tunnelled, and nothing of it is kept");
    };
    let rules = rules(entry, &reference)?;
    let mut shown = Vec::new();
    let order = Order { command: crate::cache::Command::Show, name: Some(name.clone()), dry_run: false, force: false };
    let found = carry_out(&settings.cache, &order, &mut |event| {
        if let Event::Shown(one) = event {
            shown.push(*one);
        }
        ControlFlow::Continue(())
    });
    if flags.print.json {
        let tag = rules.as_ref().map(Rules::words);
        let credentials = credentials(entry);
        let told =
            json!({"name": name, "registry": entry.name, "credentials": credentials, "tag": tag, "cache": shown});
        print_json(out, &told)?;
        return found;
    }
    writeln!(out, "{name}")?;
    writeln!(out, "registry   {} of the configuration; {}; {}", entry.name, credentials(entry), pushes(entry))?;
    if let Some(rules) = &rules {
        writeln!(out, "tag        {}", rules.words())?;
    }
    for one in &shown {
        tell(one, rules.as_ref(), out)?;
    }
    found
}

fn entry<'a>(settings: &'a Settings, registry: &str) -> Option<&'a RegistrySettings> {
    let authority = Authority::parse(registry, 443).ok()?;
    let is_at = |entry: &&RegistrySettings| {
        entry.name == registry || entry.hosts.iter().any(|host| host.matches(&authority, 443))
    };
    settings.registries.iter().find(is_at)
}

/// How long the tag is believed.
struct Rules {
    fresh_for: Duration,
    deadline: Duration,
}

impl Rules {
    fn words(&self) -> String {
        let (fresh_for, deadline) = (Period(self.fresh_for), Period(self.deadline));
        format!(
            "believed for {fresh_for} after it was asked for; then the registry is asked, for at most {deadline}, and its last answer holds where it cannot be"
        )
    }
}

fn rules(entry: &RegistrySettings, reference: &Reference) -> anyhow::Result<Option<Rules>> {
    let Reference::Tag(tag) = reference else { return Ok(None) };
    let fresh = TagPolicy::new(&entry.tags, Duration::ZERO)?.of(tag);
    Ok(Some(Rules { fresh_for: fresh.fresh_for, deadline: fresh.deadline }))
}

fn credentials(entry: &RegistrySettings) -> &'static str {
    match entry.auth {
        Auth::Client => "asked with the client's own credentials",
        Auth::Anonymous => "asked without credentials",
        Auth::Held(_) => "asked with the proxy's own credentials",
    }
}

fn pushes(entry: &RegistrySettings) -> &'static str {
    match entry.push {
        Push::Deny => "pushes are refused",
        Push::Allow => "pushes pass through",
    }
}

fn tell(shown: &Shown, rules: Option<&Rules>, out: &mut dyn Write) -> anyhow::Result<()> {
    let now = SystemTime::now();
    if let (Some(checked), Some(rules)) = (shown.checked, rules) {
        let age = now.duration_since(checked).unwrap_or_default();
        let next = if age < rules.fresh_for {
            "a pull now is answered without asking"
        } else {
            "a pull now asks the registry"
        };
        writeln!(out, "last asked {}; {next}", ago(Some(checked), now))?;
    }
    writeln!(out, "digest     {}", shown.part.digest)?;
    let missing = match shown.missing {
        0 => "all of it".to_owned(),
        missing => format!("{} that it lists are not", count(missing, "part")),
    };
    let present = if shown.part.present { "here" } else { "its manifest is not here;" };
    writeln!(out, "{present:<10} {}, {missing}", size(shown.present_size))?;
    for part in shown.part.parts.iter().filter(|part| part.platform.is_some()) {
        writeln!(out, "platform   {}: {}", part.platform.as_deref().unwrap_or_default(), state(part))?;
    }
    for right in &shown.rights {
        let who = if right.public { "everybody" } else { "whoever the registry lets, by credentials of their own" };
        writeln!(out, "readers    {}: {who} (it said so {})", right.place, ago(Some(right.proven), now))?;
    }
    for was in shown.history.iter().filter(|was| was.digest != shown.part.digest) {
        writeln!(out, "tag was    {} until {}", was.digest, ago(Some(was.last), now))?;
    }
    Ok(())
}

/// What of a platform's image is here.
fn state(part: &Part) -> String {
    let here = part.parts.iter().filter(|part| part.present).count();
    match (part.present, part.parts.len()) {
        (false, _) => "not here: nobody has pulled it, or it was evicted".to_owned(),
        (true, all) if here == all => "here".to_owned(),
        (true, all) => format!("{here} of {all} blobs are here; the others are fetched when they are asked for"),
    }
}
