//! Takes the steps of a pull in their order, and judges what each of them found.

use anyhow::bail;
use http::StatusCode;
use rustls::CertificateError;

use super::bypass;
use super::image::{self, Question};
use super::proxy::{OpenTunnel, ProxyClient};
use super::pull::{AWAY, ImagePull, choose, is_away};
use super::report::{Found, Problem, Reporter};
use super::trust::Distrust;
use super::verdict::{LOG, refused};
use crate::oci::{Authority, Bearer, Descriptor, ImageName, Reference, Repository};
use crate::proxy::LOCAL_TOKEN_PATH;

/// Takes the steps up to the first that fails; returns whether none did.
pub(super) async fn take(
    image: Option<ImageName>,
    proxy: &ProxyClient,
    from: &str,
    reporter: &mut Reporter<'_>,
) -> anyhow::Result<bool> {
    let (host, image) = match image {
        None => (some_registry(proxy).await, None),
        Some(ImageName::Image(registry, repository, reference)) => {
            (registry.to_string(), Some((repository, reference)))
        }
        Some(_) => bail!("this is not an image; expected a name such as quay.io/org/app:1"),
    };
    // Docker Hub serves images under another host name.
    let to = Authority::parse(if host == "docker.io" { "registry-1.docker.io" } else { &host }, 443)?;
    Ok(go(proxy, from, &to, image, reporter).await?.is_some())
}

/// A registry to test where none is named: Docker Hub, if the proxy caches it, else the first that it names.
async fn some_registry(proxy: &ProxyClient) -> String {
    let hub = "docker.io".to_owned();
    let Ok(page) = proxy.page("/").await else { return hub }; // the steps will say why
    let page = String::from_utf8_lossy(&page.body);
    let listed = page.lines().find_map(|line| line.strip_prefix("Cached registries: ")).unwrap_or_default();
    let names: Vec<&str> = listed.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.contains(&"docker.io") {
        return hub;
    }
    names.into_iter().find(|name| !name.contains('*')).map_or(hub, str::to_owned)
}

async fn go(
    proxy: &ProxyClient,
    from: &str,
    to: &Authority,
    image: Option<(Repository, Reference)>,
    reporter: &mut Reporter<'_>,
) -> anyhow::Result<Option<()>> {
    if reporter.step("name", name(proxy, from).await)?.is_none() {
        return Ok(None);
    }
    // The environment that names the proxy may take the registry away from it.
    if let Some(problem) = bypass::found(to).filter(|_| from.eq_ignore_ascii_case("HTTPS_PROXY")) {
        reporter.step("bypass", Ok(((), Found::Doubtful(problem))))?;
    }
    if reporter.step("proxy", reach(proxy).await)?.is_none() {
        return Ok(None);
    }
    let Some(tunnel) = reporter.step("connect", connect(proxy, to).await)? else { return Ok(None) };
    if reporter.step("trust", trust(proxy, tunnel, to).await)?.is_none() {
        return Ok(None);
    }
    let Some(challenge) = reporter.step("registry", ping(proxy, to).await)? else { return Ok(None) };
    let Some((repository, reference)) = image else { return Ok(Some(())) };
    let token = match challenge {
        None => None,
        Some(challenge) => {
            let token = image::token(proxy, &challenge, &repository).await;
            let fix = "a private image needs docker login, which doctor does not test";
            let token = token.map_err(|error| Problem::new(format!("{error:#}"), fix)).and_then(|token| token);
            let token = token.map(|token| (token, Found::Well("issued without credentials".to_owned())));
            match reporter.step("token", token)? {
                Some(token) => Some(token),
                None => return Ok(None),
            }
        }
    };
    let pull = ImagePull { proxy, to, repository, token };
    let Some(manifest) = reporter.step("manifest", pull.manifest(&reference).await)? else { return Ok(None) };
    let mut listed = Descriptor::listed(&manifest.body);
    if listed.iter().any(|entry| entry.platform.is_some()) {
        let (platform, digest) = choose(&listed);
        let Some(manifest) =
            reporter.step(&format!("platform {platform}"), pull.manifest(&Reference::Digest(digest)).await)?
        else {
            return Ok(None);
        };
        listed = Descriptor::listed(&manifest.body);
    }
    let Some((config, layers)) = listed.split_first() else { return Ok(Some(())) };
    if reporter.step("configuration", pull.config(config).await)?.is_none() {
        return Ok(None);
    }
    reporter.step("layers", pull.layers(layers).await)
}

async fn name(proxy: &ProxyClient, from: &str) -> Result<((), Found), Problem> {
    let fix = "use the proxy's IP address, or fix the name in DNS or /etc/hosts";
    match proxy.resolve().await {
        Ok(found) => {
            let found: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
            Ok(((), Found::Well(format!("{} (from {from}) resolves to {}", proxy.proxy, found.join(", ")))))
        }
        Err(error) => Err(Problem::new(format!("{} (from {from}) does not resolve: {error}", proxy.proxy), fix)),
    }
}

/// Checks that the proxy can be reached. Pulls work through one that is not ready, too.
async fn reach(proxy: &ProxyClient) -> Result<((), Found), Problem> {
    let unreachable = "check that it is running (systemctl status pullthrough, or its container) and what is in between: a \
                       firewall, an unpublished port, listen.proxy";
    let ready =
        proxy.page("/readyz").await.map_err(|error| Problem::new(format!("unreachable: {error:#}"), unreachable))?;
    match ready.status {
        StatusCode::OK => Ok(((), Found::Well(ready.words()))),
        StatusCode::SERVICE_UNAVAILABLE => {
            let fix = "fix this on the proxy's machine; its log has the details";
            Ok(((), Found::Doubtful(Problem::new(ready.words(), fix))))
        }
        status => Err(Problem::new(
            format!("{status}: {}", ready.words()),
            "is this pullthrough? another proxy may be using the port",
        )),
    }
}

async fn connect(proxy: &ProxyClient, to: &Authority) -> Result<(OpenTunnel, Found), Problem> {
    match proxy.tunnel(to).await {
        Ok(Ok(tunnel)) => Ok((tunnel, Found::Well(format!("CONNECT {to} is allowed")))),
        Ok(Err(refused)) => {
            let fix = match refused.status {
                StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    "add a user from clients.htpasswd to the proxy URL: http://user:password@host:port"
                }
                StatusCode::FORBIDDEN if refused.words().contains("clients.allow") => {
                    "add this machine's network to clients.allow in the proxy's configuration"
                }
                StatusCode::FORBIDDEN => {
                    "if clients should reach this host, add it to registries or tunnel.allow in the proxy's configuration; if the \
                     image's name begins with a mirror, test that with --mirror and its URL"
                }
                _ => LOG,
            };
            Err(Problem::new(format!("{}: {}", refused.status, refused.words()), fix))
        }
        Err(error) => Err(Problem::new(format!("{error:#}"), LOG)),
    }
}

/// Checks the certificate. One that the proxy has signed is a matter of this machine's trust store; one that came through
/// a tunnel is the registry's own, about which the proxy's CA says nothing.
async fn trust(proxy: &ProxyClient, tunnel: OpenTunnel, to: &Authority) -> Result<((), Found), Problem> {
    let is_uncovered = tunnel.is_uncovered;
    let uncovered =
        format!("{to} is a configured registry that the proxy's sealed CA does not cover, so it is only tunnelled");
    let renew = "run pullthrough check on the proxy's machine: it names the ways to have the CA cover the registry";
    match proxy.secure(tunnel, to).await {
        Ok(secured) if is_ours(&secured.issuer) => {
            Ok(((), Found::Well(format!("{to} is intercepted; its certificate was issued by {}", secured.issuer))))
        }
        Ok(_) if is_uncovered => Ok(((), Found::Doubtful(Problem::new(format!("{uncovered} and not cached"), renew)))),
        Ok(secured) => {
            let words = format!(
                "{to} is only tunnelled, so nothing is cached: it is not a configured registry; its certificate was issued by {}",
                secured.issuer
            );
            let fix = "to have it cached, add it to registries in the proxy's configuration";
            Ok(((), Found::Doubtful(Problem::new(words, fix))))
        }
        Err(distrust) => Err(match (&distrust.issuer, is_uncovered) {
            (Some(issuer), _) if is_ours(issuer) => ours_distrusted(to, &distrust),
            (issuer, true) => Problem::new(
                format!(
                    "{uncovered}; this machine does not trust the registry's own certificate{}: {:#}",
                    by(issuer.as_deref()),
                    distrust.cause
                ),
                renew,
            ),
            (Some(issuer), false) => Problem::new(
                format!(
                    "{to} is only tunnelled, and this machine does not trust its own certificate, issued by {issuer}: {:#}",
                    distrust.cause
                ),
                "if it is a registry to be cached, add it to registries in the proxy's configuration, with its CA as ca_file; \
                 else this machine must trust that CA, as it must without the proxy",
            ),
            (None, false) => Problem::new(format!("TLS with {to} failed: {:#}", distrust.cause), LOG),
        }),
    }
}

fn ours_distrusted(to: &Authority, distrust: &Distrust) -> Problem {
    let fix = match distrust.flaw() {
        Some(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => {
            "compare the clocks of this machine and of the proxy; pullthrough ca show on the proxy's machine has the dates"
        }
        Some(CertificateError::UnknownIssuer) | None => {
            "run pullthrough trust install, or the script from /setup/CLIENT; then restart the daemon, which reads its CAs \
             only once (for a program that you start in a shell, set SSL_CERT_FILE)"
        }
        Some(_) => {
            "restart the proxy, so that its issuing certificate fits its configuration; pullthrough ca show has what it covers"
        }
    };
    Problem::new(format!("the certificate of {to} is not trusted: {:#}", distrust.cause), fix)
}

fn is_ours(issuer: &str) -> bool {
    issuer.contains("pullthrough")
}

fn by(issuer: Option<&str>) -> String {
    issuer.map(|issuer| format!(", issued by {issuer}")).unwrap_or_default()
}

/// Requests `/v2/`; returns the registry's challenge, if it has one.
async fn ping(proxy: &ProxyClient, to: &Authority) -> Result<(Option<Bearer>, Found), Problem> {
    let answer = image::get(proxy, to, Question::get("/v2/", None)).await;
    let answer = answer.map_err(|error| Problem::new(format!("{error:#}"), LOG))?;
    let challenge = match answer.status {
        StatusCode::OK => None,
        StatusCode::UNAUTHORIZED => image::challenge(&answer),
        _ => return Err(refused(&answer, to)),
    };
    if is_away(&answer) {
        return Ok((challenge, Found::Doubtful(Problem::new("unreachable; the proxy answers in its place", AWAY))));
    }
    let words = match (&challenge, answer.status) {
        (None, StatusCode::OK) => "reachable; no token required".to_owned(),
        (None, _) => "reachable; user and password required".to_owned(),
        (Some(challenge), _) if challenge.realm.ends_with(LOCAL_TOKEN_PATH) => {
            "tokens come from the proxy itself, which holds the registry's credentials".to_owned()
        }
        (Some(challenge), _) => format!("reachable; tokens come from {}", challenge.realm),
    };
    Ok((challenge, Found::Well(words)))
}
