//! Prints the events of the commands as text.

use std::io::{self, Write};
use std::time::SystemTime;

use super::format::{ago, count, short, size};
use crate::cache::{ContentKind, Damage, ImageRow, Part, PinChange, Removal, Shown, Stats, Verified};

/// How a line of a list is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// Whether the header comes first.
    pub(super) with_header: bool,
}

/// Prints a line of a list. The name comes last: its length is unknown, and the list is not held in memory to find it.
pub(super) fn image(out: &mut dyn Write, row: &ImageRow, columns: Columns) -> io::Result<()> {
    if columns.with_header {
        writeln!(out, "{:>10}  {:>10}  {:<14}  {:<8}  {:<19}  IMAGE", "SIZE", "SHARED", "LAST USED", "KIND", "DIGEST")?;
    }
    let name = match &row.tag {
        Some(tag) => format!("{}/{}:{tag}", row.registry, row.repository),
        None => format!("{}/{}", row.registry, row.repository),
    };
    writeln!(
        out,
        "{:>10}  {:>10}  {:<14}  {:<8}  {:<19}  {name}{}",
        size(row.size),
        size(row.shared),
        ago(row.last_used, SystemTime::now()),
        kind(row.kind),
        short(&row.digest),
        match (row.pinned, row.incomplete) {
            (true, true) => "  (pinned, incomplete)",
            (true, false) => "  (pinned)",
            (false, true) => "  (incomplete)",
            (false, false) => "",
        },
    )
}

pub(super) fn shown(out: &mut dyn Write, shown: &Shown) -> io::Result<()> {
    let part = &shown.part;
    writeln!(out, "{}", shown.name)?;
    writeln!(out, "digest     {}", part.digest)?;
    let media_type = part.media_type.as_deref().map(|name| format!(", {name}")).unwrap_or_default();
    writeln!(out, "kind       {}{media_type}", kind(part.kind))?;
    let missing = match shown.missing {
        0 => String::new(),
        missing => format!("; {} missing", count(missing, "part")),
    };
    writeln!(out, "cached     {}{missing}", size(shown.present_size))?;
    writeln!(out, "last used  {}", ago(part.last_used, SystemTime::now()))?;
    writeln!(out, "pinned     {}", if part.pinned { "yes" } else { "no" })?;
    for place in &part.linked {
        writeln!(out, "linked in  {place}")?;
    }
    for name in &shown.needed_by {
        writeln!(out, "needed by  {name}")?;
    }
    for was in &shown.history {
        let now = SystemTime::now();
        let (first, last) = (ago(Some(was.first), now), ago(Some(was.last), now));
        writeln!(out, "previous   {} from {first} to {last}", short(&was.digest))?;
    }
    for child in &part.parts {
        inner(out, child, 1, &part.linked)?;
    }
    writeln!(out)
}

fn inner(out: &mut dyn Write, part: &Part, depth: usize, known: &[String]) -> io::Result<()> {
    let what = match (&part.platform, &part.media_type) {
        (Some(platform), _) => platform.as_str(),
        (None, Some(media_type)) => media_type.rsplit('/').next().unwrap_or(media_type),
        (None, None) => kind(part.kind),
    };
    let state = if part.present { "cached" } else { "missing" };
    let elsewhere: Vec<&str> = part.linked.iter().filter(|place| !known.contains(place)).map(String::as_str).collect();
    let also = if elsewhere.is_empty() { String::new() } else { format!("  also in {}", elsewhere.join(", ")) };
    let indent = "  ".repeat(depth);
    writeln!(out, "{indent}{}  {:>10}  {state:<7}  {what}{also}", short(&part.digest), size(part.size))?;
    part.parts.iter().try_for_each(|child| inner(out, child, depth + 1, known))
}

pub(super) fn stats(out: &mut dyn Write, stats: &Stats) -> io::Result<()> {
    writeln!(out, "directory    {}", stats.dir)?;
    writeln!(out, "size         {} of at most {}", size(stats.bytes), size(stats.limit))?;
    writeln!(out, "blobs        {}", stats.entries)?;
    writeln!(out, "disk free    {}; {} must stay free", size(stats.disk_free), size(stats.min_free))?;
    writeln!(out, "pinned       {}, {}", count(stats.pins, "image"), size(stats.pinned_bytes))?;
    writeln!(out, "fills        {}", stats.fills)?;
    match stats.evictions {
        Some(evictions) => writeln!(out, "evictions    {evictions} since the server started")?,
        None => writeln!(out, "evictions    not counted: no server is running")?,
    }
    if stats.registries.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:>10}  {:>10}  {:>8}  {:>8}  REGISTRY", "SIZE", "ONLY HERE", "BLOBS", "IMAGES")?;
    for share in &stats.registries {
        writeln!(
            out,
            "{:>10}  {:>10}  {:>8}  {:>8}  {}",
            size(share.bytes),
            size(share.only_here),
            share.entries,
            share.images,
            share.registry
        )?;
    }
    writeln!(out, "{:>10}  {:>10}  in several registries, counted once", "", size(stats.between_registries))?;
    writeln!(out, "{:>10}  {:>10}  in no known registry", "", size(stats.unnamed))
}

pub(super) fn removed(out: &mut dyn Write, removal: &Removal) -> io::Result<()> {
    let done = if removal.dry_run { "would remove" } else { "removed" };
    writeln!(
        out,
        "{done} {}: {} ({}), {} and {}",
        removal.name,
        count(removal.blobs, "blob"),
        size(removal.freed),
        count(removal.tags, "tag"),
        count(removal.links, "link"),
    )?;
    if removal.kept > 0 {
        writeln!(out, "kept {}: something else needs it", size(removal.kept))?;
    }
    if removal.spared > 0 {
        writeln!(out, "kept {}; --force removes pinned names too", count(removal.spared, "pinned name"))?;
    }
    Ok(())
}

pub(super) fn pin(out: &mut dyn Write, pin: &PinChange) -> io::Result<()> {
    if !pin.pinned {
        return writeln!(out, "{} is no longer pinned ({})", pin.name, short(&pin.digest));
    }
    let missing = match pin.missing {
        0 => String::new(),
        missing => format!("; {} not cached yet will be kept once pulled", count(missing, "part")),
    };
    writeln!(out, "pinned {} ({}): {} cached{missing}", pin.name, short(&pin.digest), size(pin.size))
}

pub(super) fn damaged(out: &mut dyn Write, damage: &Damage) -> io::Result<()> {
    let needed = match damage.needed_by.as_slice() {
        [] => String::new(),
        names => format!("; needed by {}", names.join(", ")),
    };
    writeln!(out, "dropped damaged blob {} ({}){needed}", damage.digest, size(damage.size))
}

pub(super) fn verified(out: &mut dyn Write, verified: &Verified) -> io::Result<()> {
    let blobs = count(verified.blobs, "blob");
    writeln!(out, "verified {blobs}, {}: {} damaged", size(verified.bytes), verified.damaged)
}

fn kind(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Index => "index",
        ContentKind::Manifest => "manifest",
        ContentKind::Blob => "blob",
    }
}
