//! The steps, in the order in which a pull takes them, and how they are told.

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

/// What is examined.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct DoctorFlags {
    /// The image whose manifest is read at the end, such as quay.io/org/app:1 [default: none, Docker Hub is asked only]
    #[arg(value_name = "IMAGE")]
    image: Option<ImageName>,
    /// The proxy's address [default: that of `HTTPS_PROXY`, else the configured one of this machine]
    #[arg(long, value_name = "URL")]
    proxy: Option<ProxyUrl>,
    /// A CA to trust besides those of this machine
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    print: Print,
}

/// A step that failed, and what to do.
struct Failure {
    words: String,
    cure: String,
}

fn failure(words: impl Display, cure: impl Into<String>) -> Failure {
    Failure { words: words.to_string(), cure: cure.into() }
}

/// Tells each step as it is taken.
struct Teller<'a> {
    out: &'a mut dyn Write,
    json: bool,
    steps: Vec<serde_json::Value>,
}

impl Teller<'_> {
    /// Tells the step; `None` where it failed.
    fn tell<T>(&mut self, step: &str, outcome: Result<(T, String), Failure>) -> anyhow::Result<Option<T>> {
        match outcome {
            Ok((value, words)) => self.say("ok", step, &words, None).map(|()| Some(value)),
            Err(failure) => self.say("FAIL", step, &failure.words, Some(&failure.cure)).map(|()| None),
        }
    }

    /// Tells a step that did not fail and is not well.
    fn warn(&mut self, step: &str, failure: &Failure) -> anyhow::Result<()> {
        self.say("warn", step, &failure.words, Some(&failure.cure))
    }

    fn say(&mut self, how: &str, step: &str, words: &str, cure: Option<&str>) -> anyhow::Result<()> {
        if self.json {
            let (ok, warning) = (how != "FAIL", how == "warn");
            self.steps.push(json!({"step": step, "ok": ok, "warning": warning, "found": words, "cure": cure}));
            return Ok(());
        }
        writeln!(self.out, "{how:4}  {step}: {words}")?;
        if let Some(cure) = cure {
            writeln!(self.out, "      cure: {cure}")?;
        }
        Ok(())
    }
}

/// Takes the steps and tells them on `out`.
///
/// # Errors
/// A step that failed; a proxy that is not known.
pub(crate) fn run(flags: &DoctorFlags, settings: &Settings, out: &mut dyn Write) -> anyhow::Result<()> {
    let (proxy, from) = proxy(flags, settings)?;
    let proxy = ProxyClient::new(&proxy, flags.ca.as_deref())?;
    let mut teller = Teller { out, json: flags.print.json, steps: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let well = runtime.block_on(steps(flags, &proxy, &from, &mut teller))?.is_some();
    if teller.json {
        print_json(teller.out, &teller.steps)?;
    }
    if well { Ok(()) } else { bail!("a pull from this machine would not go through the proxy") }
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
    Ok((
        format!("http://{}", reached_at(settings.listen.proxy)).parse()?,
        "the configuration of this machine".to_owned(),
    ))
}

async fn steps(
    flags: &DoctorFlags,
    proxy: &ProxyClient,
    from: &str,
    teller: &mut Teller<'_>,
) -> anyhow::Result<Option<()>> {
    let (host, repository) = match flags.image.clone().map(ImageName::or_latest) {
        None => ("docker.io".to_owned(), None),
        Some(ImageName::Image(registry, repository, reference)) => {
            (registry.to_string(), Some((repository, reference)))
        }
        Some(_) => bail!("that is no image; expected one such as quay.io/org/app:1"),
    };
    // Docker Hub's name is not where it answers.
    let to = Authority::parse(if host == "docker.io" { "registry-1.docker.io" } else { &host }, 443)?;

    let found = proxy.resolve().await.map(|found| ((), format!("{} ({from}) is at {}", proxy.proxy, list(&found))));
    let found = found.map_err(|error| {
        failure(
            format!("{} ({from}) does not resolve: {error}", proxy.proxy),
            "give the proxy's address, or mend the name in DNS or /etc/hosts",
        )
    });
    if teller.tell("name", found)?.is_none() {
        return Ok(None);
    }
    match reach(proxy).await {
        Ok(Err(doubt)) => teller.warn("proxy", &doubt)?,
        reached => {
            let reached = reached.map(|ready| ((), ready.unwrap_or_default()));
            if teller.tell("proxy", reached)?.is_none() {
                return Ok(None);
            }
        }
    }
    let Some(tunnel) = teller.tell("door", door(proxy, &to).await)? else { return Ok(None) };
    let secured = proxy.secure(tunnel, &to).await.map(|(_, issuer)| ((), issuer)).map_err(|error| {
        let cure = "pullthrough trust install, or the script at /setup/CLIENT; then restart the daemon, which reads its \
                    CAs once (a program of your own shell: SSL_CERT_FILE)";
        failure(format!("the certificate of {to} is not trusted: {error:#}"), cure)
    });
    let ours = secured.as_ref().is_ok_and(|(_, issuer)| issuer.contains("pullthrough"));
    let secured = secured.map(|((), issuer)| {
        let how = if ours {
            "intercepted"
        } else {
            "only tunnelled, so nothing of it is cached: it is no configured registry"
        };
        ((), format!("{to} is {how}; its certificate is by {issuer}"))
    });
    if teller.tell("trust", secured)?.is_none() {
        return Ok(None);
    }
    let Some(ping) = teller.tell("registry", ping(proxy, &to).await)? else { return Ok(None) };
    let Some((repository, reference)) = repository else { return Ok(Some(())) };
    let token = match ping {
        None => None,
        Some(challenge) => {
            let token = image::token(proxy, &challenge, &repository).await;
            let token = token.map(|token| (token, "given to everybody".to_owned()));
            let cure = "an image that is not public needs docker login, which this does not try";
            match teller.tell("token", token.map_err(|error| failure(format!("{error:#}"), cure)))? {
                Some(token) => Some(token),
                None => return Ok(None),
            }
        }
    };
    let read = image::manifest(proxy, &to, &repository, &reference, token.as_deref()).await;
    let read = read.map_err(|error| failure(format!("{error:#}"), "see the proxy's log")).and_then(|answer| {
        let digest = answer.header("docker-content-digest").unwrap_or("no digest");
        match answer.status {
            StatusCode::OK => {
                Ok(((), format!("{digest}; {}", answer.header("cache-status").unwrap_or("not through the cache"))))
            }
            status => Err(failure(format!("{status}: {}", answer.words()), cure(status))),
        }
    });
    teller.tell("manifest", read)
}

/// Whether the proxy is there; the inner failure is that of a proxy which is not ready, and through which pulls go on.
async fn reach(proxy: &ProxyClient) -> Result<Result<String, Failure>, Failure> {
    let unreachable = "see whether it runs (systemctl status pullthrough, or its container) and what is between: a firewall, \
                       a port that is not published, listen.proxy";
    let ready = proxy
        .page("/readyz")
        .await
        .map_err(|error| failure(format!("it cannot be reached: {error:#}"), unreachable))?;
    match ready.status {
        StatusCode::OK => Ok(Ok(ready.words())),
        StatusCode::SERVICE_UNAVAILABLE => {
            Ok(Err(failure(ready.words(), "mend that on the proxy's machine; its log says more")))
        }
        status => {
            Err(failure(format!("{status}: {}", ready.words()), "is this pullthrough? another proxy may have the port"))
        }
    }
}

async fn door(proxy: &ProxyClient, to: &Authority) -> Result<(hyper::upgrade::Upgraded, String), Failure> {
    match proxy.tunnel(to).await {
        Ok(Ok(tunnel)) => Ok((tunnel, format!("CONNECT {to} is allowed"))),
        Ok(Err(refused)) => {
            let cure = match refused.status {
                StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    "put a user of clients.htpasswd into the proxy's URL: http://user:password@host:port"
                }
                StatusCode::FORBIDDEN if refused.words().contains("clients.allow") => {
                    "add this machine's network to clients.allow of the proxy"
                }
                StatusCode::FORBIDDEN => {
                    "add it to registries or tunnel.allow of the proxy, if it is meant to be reached"
                }
                _ => "see the proxy's log",
            };
            Err(failure(format!("{}: {}", refused.status, refused.words()), cure))
        }
        Err(error) => Err(failure(format!("{error:#}"), "see the proxy's log")),
    }
}

/// The registry's own challenge, if it has one.
async fn ping(proxy: &ProxyClient, to: &Authority) -> Result<(Option<crate::oci::Bearer>, String), Failure> {
    let answer = image::get(proxy, to, "/v2/", None).await;
    let answer = answer.map_err(|error| failure(format!("{error:#}"), "see the proxy's log"))?;
    match answer.status {
        StatusCode::OK => Ok((None, "it answers, and wants no token".to_owned())),
        StatusCode::UNAUTHORIZED => match image::challenge(&answer) {
            Some(challenge) => {
                let mut words = format!("it answers; tokens are at {}", challenge.realm);
                if challenge.realm.ends_with(LOCAL_TOKEN_PATH) {
                    words += ", which is the proxy's own: the registry is away, or the proxy holds its credentials";
                }
                Ok((Some(challenge), words))
            }
            None => Ok((None, "it answers, and wants a user and a password".to_owned())),
        },
        status => Err(failure(format!("{status}: {}", answer.words()), cure(status))),
    }
}

fn cure(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => {
            "the image is not public or not there: docker login on this machine, or auth in the proxy's configuration"
        }
        404 => "look at the name and the tag",
        429 => "the registry's limit is reached: wait, or let the proxy log in (auth)",
        502..=504 => "the proxy cannot reach the registry: its log says which address and why",
        _ => "see the proxy's log",
    }
}

fn list(found: &[std::net::SocketAddr]) -> String {
    let found: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
    found.join(", ")
}
