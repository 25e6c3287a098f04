//! Defines the flags of the doctor, finds the proxy to test, and runs the steps.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use super::found::MirrorNaming;
use super::login::MirrorAddress;
use super::mirror::ImageAsked;
use super::proxy::ProxyClient;
use super::report::Reporter;
use super::{found, mirror, steps};
use crate::cli::flags::{Print, print_json};
use crate::cli::named;
use crate::config::Settings;
use crate::host::reached_at;
use crate::oci::{Authority, Host, ImageName, Reference, Repository};
use crate::setup::{MirrorUrl, ProxyUrl};

/// The image and the proxy to test.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct DoctorFlags {
    /// Image that is fetched at the end, such as quay.io/org/app:1: its manifest, its configuration, and the first byte of layers that are not cached [default: none; the test ends at Docker Hub's /v2/]
    #[arg(value_name = "IMAGE")]
    image: Option<ImageName>,
    /// Proxy address [default: the value of `HTTPS_PROXY`, else the address configured on this machine]
    #[arg(long, value_name = "URL")]
    proxy: Option<ProxyUrl>,
    /// Mirror address to test instead, as containerd asks it, or by its own name if the image is named so; a user and a password of the mirror may stand in it [default: without a proxy, the mirrors that this machine's clients are told to use]
    #[arg(long, value_name = "URL", conflicts_with = "proxy")]
    mirror: Option<MirrorAddress>,
    /// Root folder of another system whose clients' mirrors are tested
    #[arg(long, value_name = "DIR", hide = true)]
    root: Option<PathBuf>,
    /// CA certificate to trust in addition to those of this machine
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    print: Print,
}

/// Runs the steps and reports them on `out`.
///
/// # Errors
/// A step that failed, or an invalid proxy address.
pub(crate) fn run(flags: &DoctorFlags, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut reporter = Reporter { out, json: flags.print.json, steps: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let image = flags.image.clone().map(ImageName::or_latest);
    let asked = asked(image.as_ref())?;
    let mirrors = match &flags.mirror {
        Some(address) if is_named_so(&asked, &address.url) => {
            vec![found::named_by_image(address.url.clone(), flags.ca.as_deref())]
        }
        Some(address) => vec![mirror::named(address.url.clone(), flags.ca.as_deref())],
        None if flags.proxy.is_some() => Vec::new(),
        None if is_of_our_mirror(&asked, settings) => {
            let scheme = if is_loopback(&asked.registry) { "http" } else { "https" }; // as Docker does
            let url = format!("{scheme}://{}", asked.registry).parse()?;
            vec![found::named_by_image(url, flags.ca.as_deref())]
        }
        None => found::mirrors(flags.root.as_deref().unwrap_or(Path::new("/")), &asked.registry),
    };
    let (proxy, from) = proxy(flags, settings)?;
    // A machine with mirrors, and without a proxy in this environment, uses none.
    let is_own_name = mirrors.iter().any(|mirror| mirror.naming == MirrorNaming::Own);
    let login = flags.mirror.as_ref().map(MirrorAddress::login);
    let uses_proxy = mirrors.is_empty() || from.eq_ignore_ascii_case("HTTPS_PROXY") && !is_own_name;
    let mut passed = runtime.block_on(mirror::take(&mirrors, &asked, login.as_ref(), &mut reporter))?;
    if uses_proxy && flags.mirror.is_none() {
        let proxy = ProxyClient::new(&proxy, flags.ca.as_deref())?;
        passed &= runtime.block_on(steps::take(image, &proxy, &from, &mut reporter))?;
    }
    if reporter.json {
        print_json(reporter.out, &reporter.steps)?;
    }
    if passed {
        Ok(())
    } else {
        let way = if uses_proxy { "through the proxy" } else { "from the mirror" };
        bail!("a pull from this machine {way} would fail, or would not use it: see the step that failed")
    }
}

/// Whether the image's own name begins with this mirror's host.
fn is_named_so(asked: &ImageAsked, url: &MirrorUrl) -> bool {
    let default = if url.is_tls() { 443 } else { 80 };
    let parsed = |text: &str| Authority::parse(text, default).ok();
    asked.image.is_some() && parsed(&asked.registry) == parsed(url.authority())
}

/// Whether the image is named by a name of the mirror that this machine's configuration has.
fn is_of_our_mirror(asked: &ImageAsked, settings: &Settings) -> bool {
    let meant = |(repository, _): &(Repository, Reference)| named::meant(settings, &asked.registry, repository);
    asked.image.as_ref().is_some_and(|image| !meant(image).is_empty())
}

fn is_loopback(host: &str) -> bool {
    match Authority::parse(host, 443).map(|authority| authority.host) {
        Ok(Host::Address(address)) => address.is_loopback(),
        Ok(Host::Name(name)) => &*name == "localhost",
        Err(_) => false,
    }
}

/// What mirrors are asked for: without an image, what Docker Hub's clients ask.
fn asked(image: Option<&ImageName>) -> anyhow::Result<ImageAsked> {
    Ok(match image {
        None => ImageAsked { registry: "docker.io".to_owned(), image: None },
        Some(ImageName::Image(registry, repository, reference)) => {
            ImageAsked { registry: registry.to_string(), image: Some((repository.clone(), reference.clone())) }
        }
        Some(_) => bail!("this is not an image; expected a name such as quay.io/org/app:1"),
    })
}

fn proxy(flags: &DoctorFlags, settings: &Settings) -> anyhow::Result<(ProxyUrl, String)> {
    if let Some(proxy) = &flags.proxy {
        return Ok((proxy.clone(), "--proxy".to_owned()));
    }
    for name in ["HTTPS_PROXY", "https_proxy"] {
        if let Some(text) = std::env::var(name).ok().filter(|text| !text.is_empty()) {
            let text = if text.contains("://") { text } else { format!("http://{text}") };
            return Ok((text.parse().with_context(|| name.to_owned())?, name.to_owned()));
        }
    }
    Ok((format!("http://{}", reached_at(settings.listen.proxy)).parse()?, "this machine's configuration".to_owned()))
}
