//! Implements `pullthrough why IMAGE`: explains how a pull of this image would be served.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::cache::{ago, ask_server, carry_out, count, size};
use super::flags::{Print, print_json};
use super::named::{self, OwnName};
use crate::cache::{Event, Order, Part, Shown, TagPolicy};
use crate::config::Settings;
use crate::host::Period;
use crate::oci::{Authority, ImageName, Reference};
use crate::proxy::{Auth, Push, RegistrySettings};

/// The image, and the output format.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct WhyFlags {
    /// Image, such as quay.io/org/app:1
    #[arg(value_name = "IMAGE")]
    image: ImageName,
    #[command(flatten)]
    print: Print,
}

/// Explains on `out` what the configuration and the cache say about the image.
///
/// # Errors
/// A name that is not an image, or an error of the cache, for example that it does not know the image.
pub(super) fn run(flags: &WhyFlags, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let ImageName::Image(registry, repository, reference) = flags.image.clone().or_latest() else {
        bail!("this is not an image; expected a name such as quay.io/org/app:1");
    };
    let meant = named::meant(settings, &registry, &repository);
    let own = |own: &OwnName| ImageName::Image(own.registry.clone(), own.repository.clone(), reference.clone());
    let images: Vec<ImageName> = match meant.as_slice() {
        [] => vec![ImageName::Image(registry.clone(), repository.clone(), reference.clone())],
        meant => meant.iter().map(own).collect(),
    };
    let asked = ImageName::Image(registry, repository, reference.clone());
    if let [image] = images.as_slice() {
        if *image != asked && !flags.print.json {
            writeln!(out, "{asked} at the mirror is")?;
        }
        return explain(flags, settings, image, out);
    }
    if !flags.print.json {
        writeln!(out, "{asked} at the mirror is a group; the first that has the image is used:")?;
    }
    // Whoever has it answers for the group.
    let (mut told, json) = (Vec::new(), flags.print.json);
    for (index, image) in images.iter().enumerate() {
        if json {
            writeln!(out, "{}", if index == 0 { "[" } else { "," })?;
        }
        told.push(explain(flags, settings, image, out));
    }
    if json {
        writeln!(out, "]")?;
    }
    match told.iter().position(Result::is_ok) {
        Some(_) => Ok(()),
        None => told.pop().unwrap_or(Ok(())),
    }
}

fn explain(flags: &WhyFlags, settings: &Settings, image: &ImageName, out: &mut dyn Write) -> anyhow::Result<()> {
    let ImageName::Image(registry, _, reference) = image else { bail!("this is not an image") };
    let name = image.to_string();
    let Some(entry) = entry(settings, registry) else {
        bail!(
            "{registry} is not a configured registry, and no name of the mirror (mirror.names): it is only tunnelled, and nothing is \
             cached"
        );
    };
    let rules = rules(entry, reference)?;
    let outages = outages(settings, registry);
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
        let told = json!({"name": name, "registry": entry.name, "credentials": credentials, "tag": tag, "outages": outages, "cache": shown});
        print_json(out, &told)?;
        return found;
    }
    writeln!(out, "{name}")?;
    writeln!(out, "registry   {} (configured); {}; {}", entry.name, credentials(entry), pushes(entry))?;
    if let Some(rules) = &rules {
        writeln!(out, "tag        {}", rules.words())?;
    }
    for outage in &outages {
        writeln!(out, "outage     {outage}; what is cached is served to its readers, and nothing else")?;
    }
    for one in &shown {
        tell(one, entry, rules.as_ref(), Away::of(&outages, entry), out)?;
    }
    found
}

/// The unreachable hosts that the registry needs, as the running server knows them. A server of an earlier version tells
/// none.
fn outages(settings: &Settings, registry: &str) -> Vec<String> {
    let order = Order::new(crate::cache::Command::Outages, Some(registry.to_owned()));
    let mut outages = Vec::new();
    let _ = ask_server(&settings.cache, &order, &mut |event| {
        if let Event::Outage(words) = event {
            outages.push(words);
        }
        ControlFlow::Continue(())
    });
    outages
}

fn entry<'a>(settings: &'a Settings, registry: &str) -> Option<&'a RegistrySettings> {
    let authority = Authority::parse(registry, 443).ok()?;
    let is_at = |entry: &&RegistrySettings| {
        entry.name == registry || entry.hosts.iter().any(|host| host.matches(&authority, 443))
    };
    settings.registries.iter().find(is_at)
}

/// How long an answer for the tag stays fresh.
struct Rules {
    fresh_for: Duration,
    deadline: Duration,
}

impl Rules {
    fn words(&self) -> String {
        let (fresh_for, deadline) = (Period(self.fresh_for), Period(self.deadline));
        format!(
            "fresh for {fresh_for} after the registry was asked; then the registry is asked again, for at most {deadline}, and if it cannot be reached its last answer is used"
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
        Auth::Client => "requests use the client's own credentials",
        Auth::Anonymous => "requests use no credentials",
        Auth::Held(_) => "requests use the proxy's own credentials",
    }
}

fn pushes(entry: &RegistrySettings) -> &'static str {
    match entry.push {
        Push::Deny => "pushes are refused",
        Push::Allow => "pushes pass through",
    }
}

/// How far the registry can be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    Nothing,
    /// A host that it needs: its token service, or one that it redirects to.
    Part,
    Registry,
}

impl Away {
    fn of(outages: &[String], entry: &RegistrySettings) -> Self {
        let is_own = |outage: &String| {
            let host = outage.split(' ').next().and_then(|host| Authority::parse(host, 443).ok());
            host.is_some_and(|host| {
                entry.hosts.iter().any(|own| own.matches(&host, 443))
                    || entry.endpoints.iter().any(|endpoint| endpoint.url.contains(&host.host.to_string()))
            })
        };
        match outages {
            [] => Self::Nothing,
            _ if outages.iter().any(is_own) => Self::Registry,
            _ => Self::Part,
        }
    }
}

/// Who can be served while the registry cannot be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    Everybody,
    /// Those who have proven a right of their own, as the running server remembers.
    Proven,
    /// Everybody, as long as the server remembers: its registry's word is not kept.
    SinceStart,
}

/// How long it is known over a restart that a repository is public.
const PUBLIC: Duration = Duration::from_secs(7 * 86_400);

impl Readers {
    fn of(shown: &Shown, entry: &RegistrySettings, now: SystemTime) -> Self {
        let is_recent = |proven: SystemTime| now.duration_since(proven).unwrap_or_default() < PUBLIC;
        if shown.rights.iter().any(|right| right.public && is_recent(right.proven)) {
            return Self::Everybody;
        }
        if is_plain(entry) { Self::SinceStart } else { Self::Proven }
    }
}

/// No credentials go there, and its word is kept over no restart.
fn is_plain(entry: &RegistrySettings) -> bool {
    entry.endpoints.iter().any(|endpoint| endpoint.url.starts_with("http://"))
}

/// What a pull of a tag meets whose answer has this age.
fn next(is_fresh: bool, is_complete: bool, away: Away, readers: Readers) -> &'static str {
    if away != Away::Nothing && is_complete && (is_fresh || away == Away::Registry) {
        match readers {
            Readers::Everybody => {}
            Readers::Proven => {
                return "a pull now is answered with what was said then if its client has proven its right to it since the proxy was \
                        started (grants.outage), and else fails with 503, since the registry cannot be asked";
            }
            Readers::SinceStart => {
                return "a pull now is answered with what was said then if the registry has answered since the proxy was started, and \
                        else fails with 503, since the registry cannot be asked";
            }
        }
    }
    match (is_fresh, away, is_complete) {
        (true, Away::Nothing, _) | (true, _, true) => "a pull now is answered without asking the registry",
        (true, _, false) => {
            "a pull now knows the tag, and fails at what is missing until the registry is reachable again"
        }
        (false, Away::Registry, true) => {
            "a pull now is answered with what was said then, since the registry cannot be asked"
        }
        (false, Away::Registry, false) => {
            "a pull now gets what was said then, and fails at what is missing, since the registry cannot be asked"
        }
        (false, Away::Nothing | Away::Part, _) => "a pull now asks the registry",
    }
}

fn tell(
    shown: &Shown,
    entry: &RegistrySettings,
    rules: Option<&Rules>,
    away: Away,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let now = SystemTime::now();
    if let (Some(checked), Some(rules)) = (shown.checked, rules) {
        let age = now.duration_since(checked).unwrap_or_default();
        // One platform is enough for its pull.
        let is_whole = |part: &Part| part.present && part.parts.iter().all(|part| part.present);
        let mut platforms = shown.part.parts.iter().filter(|part| part.platform.is_some()).peekable();
        let has_one = if platforms.peek().is_some() { platforms.any(is_whole) } else { shown.missing == 0 };
        let readers = Readers::of(shown, entry, now);
        let next = next(age < rules.fresh_for, shown.part.present && has_one, away, readers);
        writeln!(out, "last asked {}; {next}", ago(Some(checked), now))?;
    }
    writeln!(out, "digest     {}", shown.part.digest)?;
    let missing = match shown.missing {
        0 => "complete".to_owned(),
        missing => format!("{} missing", count(missing, "listed part")),
    };
    let manifest = if shown.part.present { "" } else { "; the manifest itself is missing" };
    writeln!(out, "cached     {}, {missing}{manifest}", size(shown.present_size))?;
    for part in shown.part.parts.iter().filter(|part| part.platform.is_some()) {
        writeln!(out, "platform   {}: {}", part.platform.as_deref().unwrap_or_default(), state(part, away))?;
    }
    for right in &shown.rights {
        let who = match right.public {
            true => "everyone",
            false if is_plain(entry) => {
                "everyone while the registry says so; that is not remembered over a restart, as it is asked without TLS"
            }
            false if matches!(entry.auth, Auth::Held(_)) => {
                "clients that the registry admits with the proxy's credentials"
            }
            false => "clients that the registry admits with their own credentials",
        };
        writeln!(out, "readers    {}: {who} (the registry said so {})", right.place, ago(Some(right.proven), now))?;
    }
    for was in shown.history.iter().filter(|was| was.digest != shown.part.digest) {
        writeln!(out, "previous   {} until {}", was.digest, ago(Some(was.last), now))?;
    }
    Ok(())
}

/// Says how much of a platform's image is cached.
fn state(part: &Part, away: Away) -> String {
    let cached = part.parts.iter().filter(|part| part.present).count();
    let rest = match away {
        Away::Nothing => "are fetched on demand",
        Away::Part | Away::Registry => "cannot be fetched during the outage, so a pull of it fails",
    };
    match (part.present, part.parts.len()) {
        (false, _) => "not cached: nobody has pulled it, or it was evicted".to_owned(),
        (true, all) if cached == all => "cached".to_owned(),
        (true, all) => format!("{cached} of {all} blobs are cached; the others {rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_during_an_outage_is_not_promised() {
        let table = [
            (true, true, Away::Registry, "is answered without"),
            (true, false, Away::Nothing, "is answered without"),
            (true, false, Away::Registry, "fails at what is missing"),
            (true, false, Away::Part, "fails at what is missing"),
            (false, true, Away::Registry, "with what was said then"),
            (false, false, Away::Registry, "fails at what is missing"),
            (false, true, Away::Part, "asks the registry"),
            (false, false, Away::Nothing, "asks the registry"),
        ];
        for (is_fresh, is_complete, away, words) in table {
            let said = next(is_fresh, is_complete, away, Readers::Everybody);
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn in_an_outage_nobody_is_promised_what_only_some_get() {
        for (readers, words) in
            [(Readers::Proven, "its client has proven"), (Readers::SinceStart, "the registry has answered since")]
        {
            for (is_fresh, away) in [(true, Away::Part), (true, Away::Registry), (false, Away::Registry)] {
                let said = next(is_fresh, true, away, readers);
                assert!(said.contains(words) && said.contains("503"), "{said}");
            }
            for is_fresh in [true, false] {
                assert!(!next(is_fresh, true, Away::Nothing, readers).contains("503"));
            }
        }
    }
}
