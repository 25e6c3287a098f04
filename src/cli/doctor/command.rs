//! Runs the steps in the order in which a pull takes them, and reports each.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use http::StatusCode;
use serde_json::json;

use super::image;
use super::proxy::ProxyClient;
use crate::cli::flags::{Print, print_json};
use crate::config::Settings;
use crate::host::reached_at;
use crate::oci::{Authority, ImageName};
use crate::proxy::LOCAL_TOKEN_PATH;
use crate::setup::ProxyUrl;

/// The image and the proxy to test.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct DoctorFlags {
    /// Image whose manifest is fetched at the end, such as quay.io/org/app:1 [default: none; the test ends at Docker Hub's /v2/]
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

/// A failed step, and its fix.
struct Failure {
    words: String,
    fix: String,
}

fn failure(words: impl Display, fix: impl Into<String>) -> Failure {
    Failure { words: words.to_string(), fix: fix.into() }
}

/// Reports each step as it is taken.
struct Reporter<'a> {
    out: &'a mut dyn Write,
    json: bool,
    steps: Vec<serde_json::Value>,
}

impl Reporter<'_> {
    /// Reports the step; `None` if it failed.
    fn step<T>(&mut self, step: &str, outcome: Result<(T, String), Failure>) -> anyhow::Result<Option<T>> {
        match outcome {
            Ok((value, words)) => self.print("ok", step, &words, None).map(|()| Some(value)),
            Err(failure) => self.print("FAIL", step, &failure.words, Some(&failure.fix)).map(|()| None),
        }
    }

    /// Reports a step that did not fail but found a problem.
    fn warn(&mut self, step: &str, failure: &Failure) -> anyhow::Result<()> {
        self.print("warn", step, &failure.words, Some(&failure.fix))
    }

    fn print(&mut self, how: &str, step: &str, words: &str, fix: Option<&str>) -> anyhow::Result<()> {
        if self.json {
            let (ok, warning) = (how != "FAIL", how == "warn");
            self.steps.push(json!({"step": step, "ok": ok, "warning": warning, "found": words, "cure": fix}));
            return Ok(());
        }
        writeln!(self.out, "{how:4}  {step}: {words}")?;
        if let Some(fix) = fix {
            writeln!(self.out, "      fix: {fix}")?;
        }
        Ok(())
    }
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
    let passed = runtime.block_on(steps(flags, &proxy, &from, &mut reporter))?.is_some();
    if reporter.json {
        print_json(reporter.out, &reporter.steps)?;
    }
    if passed { Ok(()) } else { bail!("a pull from this machine would not go through the proxy") }
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

async fn steps(
    flags: &DoctorFlags,
    proxy: &ProxyClient,
    from: &str,
    reporter: &mut Reporter<'_>,
) -> anyhow::Result<Option<()>> {
    let (host, repository) = match flags.image.clone().map(ImageName::or_latest) {
        None => ("docker.io".to_owned(), None),
        Some(ImageName::Image(registry, repository, reference)) => {
            (registry.to_string(), Some((repository, reference)))
        }
        Some(_) => bail!("this is not an image; expected a name such as quay.io/org/app:1"),
    };
    // Docker Hub serves images under another host name.
    let to = Authority::parse(if host == "docker.io" { "registry-1.docker.io" } else { &host }, 443)?;

    let found =
        proxy.resolve().await.map(|found| ((), format!("{} (from {from}) resolves to {}", proxy.proxy, list(&found))));
    let found = found.map_err(|error| {
        failure(
            format!("{} (from {from}) does not resolve: {error}", proxy.proxy),
            "use the proxy's IP address, or fix the name in DNS or /etc/hosts",
        )
    });
    if reporter.step("name", found)?.is_none() {
        return Ok(None);
    }
    match reach(proxy).await {
        Ok(Err(problem)) => reporter.warn("proxy", &problem)?,
        reached => {
            let reached = reached.map(|ready| ((), ready.unwrap_or_default()));
            if reporter.step("proxy", reached)?.is_none() {
                return Ok(None);
            }
        }
    }
    let Some(tunnel) = reporter.step("connect", connect(proxy, &to).await)? else { return Ok(None) };
    let secured = proxy.secure(tunnel, &to).await.map(|(_, issuer)| ((), issuer)).map_err(|error| {
        let fix = "run pullthrough trust install, or the script from /setup/CLIENT; then restart the daemon, which reads \
                   its CAs only once (for a program that you start in a shell, set SSL_CERT_FILE)";
        failure(format!("the certificate of {to} is not trusted: {error:#}"), fix)
    });
    let ours = secured.as_ref().is_ok_and(|(_, issuer)| issuer.contains("pullthrough"));
    let secured = secured.map(|((), issuer)| {
        let how =
            if ours { "intercepted" } else { "only tunnelled, so nothing is cached: it is not a configured registry" };
        ((), format!("{to} is {how}; its certificate was issued by {issuer}"))
    });
    if reporter.step("trust", secured)?.is_none() {
        return Ok(None);
    }
    let Some(ping) = reporter.step("registry", ping(proxy, &to).await)? else { return Ok(None) };
    let Some((repository, reference)) = repository else { return Ok(Some(())) };
    let token = match ping {
        None => None,
        Some(challenge) => {
            let token = image::token(proxy, &challenge, &repository).await;
            let token = token.map(|token| (token, "issued without credentials".to_owned()));
            let fix = "a private image needs docker login, which doctor does not test";
            match reporter.step("token", token.map_err(|error| failure(format!("{error:#}"), fix)))? {
                Some(token) => Some(token),
                None => return Ok(None),
            }
        }
    };
    let read = image::manifest(proxy, &to, &repository, &reference, token.as_deref()).await;
    let read = read.map_err(|error| failure(format!("{error:#}"), "check the proxy's log")).and_then(|answer| {
        let digest = answer.header("docker-content-digest").unwrap_or("no digest");
        match answer.status {
            StatusCode::OK => {
                Ok(((), format!("{digest}; {}", answer.header("cache-status").unwrap_or("not through the cache"))))
            }
            status => Err(failure(format!("{status}: {}", answer.words()), fix(status))),
        }
    });
    reporter.step("manifest", read)
}

/// Checks that the proxy can be reached. The inner failure is that of a proxy that is not ready; pulls still work then.
async fn reach(proxy: &ProxyClient) -> Result<Result<String, Failure>, Failure> {
    let unreachable = "check that it is running (systemctl status pullthrough, or its container) and what is in between: a \
                       firewall, an unpublished port, listen.proxy";
    let ready = proxy.page("/readyz").await.map_err(|error| failure(format!("unreachable: {error:#}"), unreachable))?;
    match ready.status {
        StatusCode::OK => Ok(Ok(ready.words())),
        StatusCode::SERVICE_UNAVAILABLE => {
            Ok(Err(failure(ready.words(), "fix this on the proxy's machine; its log has the details")))
        }
        status => Err(failure(
            format!("{status}: {}", ready.words()),
            "is this pullthrough? another proxy may be using the port",
        )),
    }
}

async fn connect(proxy: &ProxyClient, to: &Authority) -> Result<(hyper::upgrade::Upgraded, String), Failure> {
    match proxy.tunnel(to).await {
        Ok(Ok(tunnel)) => Ok((tunnel, format!("CONNECT {to} is allowed"))),
        Ok(Err(refused)) => {
            let fix = match refused.status {
                StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    "add a user from clients.htpasswd to the proxy URL: http://user:password@host:port"
                }
                StatusCode::FORBIDDEN if refused.words().contains("clients.allow") => {
                    "add this machine's network to clients.allow in the proxy's configuration"
                }
                StatusCode::FORBIDDEN => {
                    "if clients should reach this host, add it to registries or tunnel.allow in the proxy's configuration"
                }
                _ => "check the proxy's log",
            };
            Err(failure(format!("{}: {}", refused.status, refused.words()), fix))
        }
        Err(error) => Err(failure(format!("{error:#}"), "check the proxy's log")),
    }
}

/// Requests `/v2/`; returns the registry's challenge, if it has one.
async fn ping(proxy: &ProxyClient, to: &Authority) -> Result<(Option<crate::oci::Bearer>, String), Failure> {
    let answer = image::get(proxy, to, "/v2/", None).await;
    let answer = answer.map_err(|error| failure(format!("{error:#}"), "check the proxy's log"))?;
    match answer.status {
        StatusCode::OK => Ok((None, "reachable; no token required".to_owned())),
        StatusCode::UNAUTHORIZED => match image::challenge(&answer) {
            Some(challenge) => {
                let mut words = format!("reachable; tokens come from {}", challenge.realm);
                if challenge.realm.ends_with(LOCAL_TOKEN_PATH) {
                    words +=
                        ", which is the proxy itself: the registry is unreachable, or the proxy holds its credentials";
                }
                Ok((Some(challenge), words))
            }
            None => Ok((None, "reachable; user and password required".to_owned())),
        },
        status => Err(failure(format!("{status}: {}", answer.words()), fix(status))),
    }
}

fn fix(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => {
            "the image is private or does not exist: run docker login on this machine, or set auth in the proxy's configuration"
        }
        404 => "check the name and the tag",
        429 => "the registry's rate limit is reached: wait, or let the proxy log in (auth)",
        502..=504 => "the proxy cannot reach the registry: its log names the address and the reason",
        _ => "check the proxy's log",
    }
}

fn list(found: &[std::net::SocketAddr]) -> String {
    let found: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
    found.join(", ")
}
