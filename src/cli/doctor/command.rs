//! Defines the flags of the doctor, finds the proxy to test, and runs the steps.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::proxy::ProxyClient;
use super::report::Reporter;
use super::steps;
use crate::cli::flags::{Print, print_json};
use crate::config::Settings;
use crate::host::reached_at;
use crate::oci::ImageName;
use crate::setup::ProxyUrl;

/// The image and the proxy to test.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct DoctorFlags {
    /// Image that is fetched at the end, such as quay.io/org/app:1: its manifest, its configuration, and the first byte of layers that are not cached [default: none; the test ends at Docker Hub's /v2/]
    #[arg(value_name = "IMAGE")]
    image: Option<ImageName>,
    /// Proxy address [default: the value of `HTTPS_PROXY`, else the address configured on this machine]
    #[arg(long, value_name = "URL")]
    proxy: Option<ProxyUrl>,
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
    let (proxy, from) = proxy(flags, settings)?;
    let proxy = ProxyClient::new(&proxy, flags.ca.as_deref())?;
    let mut reporter = Reporter { out, json: flags.print.json, steps: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let image = flags.image.clone().map(ImageName::or_latest);
    let passed = runtime.block_on(steps::take(image, &proxy, &from, &mut reporter))?;
    if reporter.json {
        print_json(reporter.out, &reporter.steps)?;
    }
    if passed {
        Ok(())
    } else {
        bail!("a pull from this machine through the proxy would fail, or would not use it: see the step that failed")
    }
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
