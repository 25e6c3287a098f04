//! Tests each mirror as its client asks it, and says when that client would pass it over.

use std::path::Path;
use std::process::Command;

use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use rustls::CertificateError;

use super::found::{FoundMirror, MirrorNaming, PODMAN, THE};
use super::image;
use super::login::{self, MirrorLogin};
use super::report::{Found, Problem, Reporter};
use super::talk::{self, Answer, ask, speak};
use super::trust::PeerTrust;
use super::verdict::{LOG, fix_at_mirror, refused};
use crate::oci::{Accept, Authority, Bearer, Reference, Repository};
use crate::wire::Body;

/// An image at its registry.
pub(super) struct ImageAsked {
    pub(super) registry: String,
    pub(super) image: Option<(Repository, Reference)>,
}

struct Mirror<'a> {
    found: &'a FoundMirror,
    to: Authority,
    trust: PeerTrust,
    login: MirrorLogin,
}

/// How the mirror lets its clients in.
#[derive(Default)]
struct Entrance {
    challenge: Option<Bearer>,
    /// The user and the password that it wants and has been given.
    login: Option<HeaderValue>,
}

/// Takes the steps for each mirror; answers whether all of them can be used. `login` is what a person has given, else what this
/// machine's clients have kept is looked for.
pub(super) async fn take(
    found: &[FoundMirror],
    asked: &ImageAsked,
    login: Option<&MirrorLogin>,
    reporter: &mut Reporter<'_>,
) -> anyhow::Result<bool> {
    let mut passed = true;
    for mirror in found {
        let kept = || if sends_logins(mirror) { login::kept(&mirror.url) } else { MirrorLogin::default() };
        passed &= go(mirror, asked, login.cloned().unwrap_or_else(kept), reporter).await?.is_some();
    }
    Ok(passed)
}

/// Whether the client sends a mirror what a login has kept for it.
fn sends_logins(found: &FoundMirror) -> bool {
    found.naming == MirrorNaming::Own || found.client == PODMAN
}

async fn go(
    found: &FoundMirror,
    asked: &ImageAsked,
    login: MirrorLogin,
    reporter: &mut Reporter<'_>,
) -> anyhow::Result<Option<()>> {
    let step = |name: &str| format!("{} mirror, {name}", found.client);
    if reporter.step(&step("setting"), setting(found))?.is_none() {
        return Ok(None);
    }
    let default = if found.url.is_tls() { 443 } else { 80 };
    let mirror = Mirror {
        found,
        to: Authority::parse(found.url.authority(), default)?,
        trust: PeerTrust::new(found.trusted.iter().map(|path| path.as_path()).filter(|path| path.is_file()))?,
        login,
    };
    if reporter.step(&step("way"), mirror.reach().await)?.is_none() {
        return Ok(None);
    }
    let Some(entrance) = reporter.step(&step("/v2/"), mirror.ping().await)? else { return Ok(None) };
    let Some((repository, reference)) = &asked.image else {
        let known = mirror.knows(asked, &entrance).await;
        return reporter.step(&step("registry"), known);
    };
    reporter.step(&step("image"), mirror.image(asked, repository, reference, entrance).await)
}

/// What happens at the client then, which says nothing.
fn fallback(found: &FoundMirror) -> String {
    match found.client {
        _ if found.naming == MirrorNaming::Own => "until then pulls by this name fail".to_owned(),
        "Docker" => "until then Docker pulls from Docker Hub itself, and says nothing".to_owned(),
        THE => "until then clients pull from the registry itself, and say nothing".to_owned(),
        PODMAN => format!("until then {PODMAN} pull from the registry itself, and say nothing"),
        client => format!("until then {client} pulls from the registry itself, and says nothing"),
    }
}

fn problem(found: &FoundMirror, words: impl std::fmt::Display, fix: &str) -> Problem {
    Problem::new(words, format!("{fix}; {}", fallback(found)))
}

/// Whether the running client has read its setting, where it can be asked.
fn setting(found: &FoundMirror) -> Result<((), Found), Problem> {
    let told = format!("{} (in {})", found.url, found.file.display());
    let is_real = found.file.starts_with("/etc"); // not below another root
    match found.client {
        "Docker" if is_real => {
            let listed = output("docker", &["info", "--format", "{{json .RegistryConfig.Mirrors}}"]);
            let Some(listed) = listed.filter(|listed| !listed.trim().is_empty()) else {
                return Ok(((), Found::Well(format!("{told}; the running daemon was not asked"))));
            };
            if !listed.contains(&found.url.base()) {
                let words = format!("{told}, which the running daemon has not read: it uses {}", listed.trim());
                return Err(problem(found, words, "run systemctl reload docker"));
            }
        }
        "containerd" if is_real => {
            let dump = output("containerd", &["config", "dump"]).unwrap_or_default();
            let is_named =
                |dump: &str| dump.lines().any(|line| line.contains("config_path") && line.contains("certs.d"));
            // containerd 2 reads the folder unless it is told of another.
            let is_two = ["version = 3", "version = 4"].iter().any(|version| dump.contains(version));
            if !dump.is_empty() && !is_two && !is_named(&dump) {
                let words =
                    format!("{told}, which containerd does not read: config_path is not set in its configuration");
                return Err(problem(found, words, "run pullthrough setup containerd --mirror URL --apply"));
            }
        }
        _ => {}
    }
    Ok(((), Found::Well(told)))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let done = Command::new(program).args(arguments).output().ok().filter(|done| done.status.success())?;
    String::from_utf8(done.stdout).ok()
}

impl Mirror<'_> {
    /// Connects, with TLS where the client does.
    async fn reach(&self) -> Result<((), Found), Problem> {
        let unreachable = "check the name, that the mirror runs (listen.mirror), and what is in between: a firewall, an \
                           unpublished port";
        let stream = talk::connect(&self.to)
            .await
            .map_err(|error| problem(self.found, format!("{} is unreachable: {error:#}", self.to), unreachable))?;
        if !self.found.url.is_tls() {
            return Ok(((), Found::Well(format!("{} is reachable, without TLS", self.to))));
        }
        match self.trust.secure(hyper_util::rt::TokioIo::new(stream), &self.to).await {
            Ok(secured) => {
                Ok(((), Found::Well(format!("{}; its certificate was issued by {}", self.to, secured.issuer))))
            }
            Err(distrust) => {
                let trusted: Vec<String> = self.found.trusted.iter().map(|path| path.display().to_string()).collect();
                let place =
                    if trusted.is_empty() { "the system's CAs alone".to_owned() } else { trusted.join(" and ") };
                let fix = match distrust.flaw() {
                    Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
                        "use the name that the certificate has, or add this name to mirror.names".to_owned()
                    }
                    Some(_) => format!(
                        "run pullthrough setup again, with --apply and the CA's fingerprint (trusted for it: {place})"
                    ),
                    None => "check that the mirror serves TLS on this port, and its log".to_owned(),
                };
                let by = distrust.issuer.as_deref().map(|by| format!(", issued by {by}")).unwrap_or_default();
                let words = format!("TLS with {} failed{by}: {:#}", self.to, distrust.cause);
                Err(problem(self.found, words, &fix))
            }
        }
    }

    async fn get(&self, path: &str, authorization: Option<&HeaderValue>) -> anyhow::Result<Answer> {
        self.ask(Method::GET, path, authorization).await
    }

    async fn ask(&self, method: Method, path: &str, authorization: Option<&HeaderValue>) -> anyhow::Result<Answer> {
        let stream = talk::connect(&self.to).await?;
        let mut sender = if self.found.url.is_tls() {
            let secured = self.trust.secure(hyper_util::rt::TokioIo::new(stream), &self.to).await;
            secured.map_err(|distrust| distrust.cause)?.sender
        } else {
            speak(stream).await?
        };
        let request = Request::builder().method(method).uri(path).header(HOST, self.found.url.authority());
        let mut request = request.header(ACCEPT, Accept::EVERYTHING.to_string());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        ask(&mut sender, request.body(Body::empty())?).await
    }

    /// Asks `/v2/`, from which some clients take their only challenge.
    async fn ping(&self) -> Result<(Entrance, Found), Problem> {
        let path = format!("{}/v2/", self.found.url.root());
        let failed = |error: anyhow::Error| problem(self.found, format!("{error:#}"), LOG);
        let answer = self.get(&path, None).await.map_err(failed)?;
        let wants_login = answer.status == StatusCode::UNAUTHORIZED && image::challenge(&answer).is_none();
        if let Some(login) = self.login.basic.as_ref().filter(|_| wants_login) {
            let answer = self.get(&path, Some(login)).await.map_err(failed)?;
            if answer.status == StatusCode::OK {
                let entrance = Entrance { challenge: None, login: Some(login.clone()) };
                return Ok((entrance, Found::Well("answers as a registry, and knows this machine's user".to_owned())));
            }
            let words = format!("{}: the mirror refuses this machine's user: {}", answer.status, answer.words());
            return Err(problem(self.found, words, &self.log_in()));
        }
        match answer.status {
            StatusCode::OK => {
                Ok((Entrance::default(), Found::Well("answers as a registry; no token required".to_owned())))
            }
            StatusCode::UNAUTHORIZED => match image::challenge(&answer) {
                Some(challenge) => {
                    let words = format!("answers as a registry; tokens come from {}", challenge.realm);
                    Ok((Entrance { challenge: Some(challenge), login: None }, Found::Well(words)))
                }
                None => {
                    let words = "a user and a password of the mirror are required";
                    Ok((Entrance::default(), Found::Doubtful(problem(self.found, words, &self.log_in()))))
                }
            },
            status => {
                let words = format!("{status}: {}", answer.words());
                let fix = "is this a registry mirror? see listen.mirror of pullthrough, and what else may use the port";
                Err(problem(self.found, words, fix))
            }
        }
    }

    /// Whether the mirror knows the registry that is asked for: by HEAD, which counts as no pull anywhere. What the registry says
    /// of that image is not asked.
    async fn knows(&self, asked: &ImageAsked, entrance: &Entrance) -> Result<((), Found), Problem> {
        let failed = |error: anyhow::Error| problem(self.found, format!("{error:#}"), LOG);
        let path = self.path(asked, "library/hello-world", "latest");
        let answer = self.ask(Method::HEAD, &path, entrance.login.as_ref()).await.map_err(failed)?;
        if answer.status != StatusCode::NOT_FOUND || !answer.is_of_the_proxy() {
            return Ok(((), Found::Well(format!("{} is a registry of this mirror", asked.registry))));
        }
        let words = format!(
            "{} is no registry of this mirror: {}",
            asked.registry,
            answer.header("proxy-status").unwrap_or_default()
        );
        if self.found.client == THE {
            let fix =
                "name an image of a registry that it has, or add this one to registries in the mirror's configuration";
            return Ok(((), Found::Doubtful(Problem::new(words, fix))));
        }
        let fix = "add it to registries in the mirror's configuration, or set mirror.default where the client names no registry";
        Err(problem(self.found, words, fix))
    }

    /// A manifest's path as the client asks for it.
    fn path(&self, asked: &ImageAsked, repository: &str, reference: &str) -> String {
        let ns = match self.found.naming {
            MirrorNaming::Namespace => format!("?ns={}", asked.registry),
            MirrorNaming::Silent | MirrorNaming::Own => String::new(),
        };
        format!("{}{}/{repository}/manifests/{reference}{ns}", self.found.url.root(), self.api())
    }

    /// `/v2`, with what follows it for this mirror.
    fn api(&self) -> String {
        let (base, api) = (self.found.url.base(), self.found.url.api());
        api.strip_prefix(&base).unwrap_or(&api).to_owned()
    }

    /// How a client gets a user and a password of the mirror's.
    fn log_in(&self) -> String {
        let host = self.found.url.authority();
        let helper = if self.login.is_with_helper { ", since the doctor runs no credential helper" } else { "" };
        format!(
            "log this client in to {host} with a user of the mirror's clients.htpasswd, and give them to the doctor, too, where it \
             does not find them{helper}: --mirror {}://USER:PASSWORD@{host}",
            if self.found.url.is_tls() { "https" } else { "http" }
        )
    }

    fn cure(&self, answer: &Answer) -> String {
        let log_in = image::challenge(answer).is_none().then(|| self.log_in());
        fix_at_mirror(answer, self.found.url.authority(), log_in.as_deref())
    }

    /// Fetches the manifest by the name that the client gives it.
    async fn image(
        &self,
        asked: &ImageAsked,
        repository: &Repository,
        reference: &Reference,
        entrance: Entrance,
    ) -> Result<((), Found), Problem> {
        let Entrance { challenge, login } = entrance;
        let api = self.api();
        let path = self.path(asked, repository.as_str(), &reference.to_string());
        let failed = |error: anyhow::Error| problem(self.found, format!("{error:#}"), LOG);
        let mut answer = self.get(&path, login.as_ref()).await.map_err(failed)?;
        let challenge = image::challenge(&answer).filter(|_| answer.status == StatusCode::UNAUTHORIZED).or(challenge);
        if let (StatusCode::UNAUTHORIZED, Some(challenge)) = (answer.status, challenge) {
            let prefix = api.strip_prefix("/v2").unwrap_or_default().trim_start_matches('/');
            let named = if prefix.is_empty() { repository.to_string() } else { format!("{prefix}/{repository}") };
            let token = self.token(&challenge, &named).await.map_err(failed)?;
            let token = token.map_err(|Problem { words, fix }| problem(self.found, words, &fix))?;
            let bearer = HeaderValue::from_str(&format!("Bearer {token}"));
            let bearer = bearer.map_err(|error| failed(error.into()))?;
            answer = self.get(&path, Some(&bearer)).await.map_err(failed)?;
        }
        if answer.status != StatusCode::OK {
            let Problem { words, .. } = refused(&answer, &self.to);
            return Err(problem(self.found, words, &self.cure(&answer)));
        }
        let digest = answer.header("docker-content-digest").unwrap_or("no digest");
        match answer.header("cache-status") {
            Some(status) if status.contains("pullthrough") => Ok(((), Found::Well(format!("{digest}; {status}")))),
            _ => {
                let words = format!("{digest}, from a mirror that is not pullthrough");
                Ok((
                    (),
                    Found::Doubtful(Problem::new(words, "name pullthrough's address there, if it should be asked")),
                ))
            }
        }
    }

    /// Asks the mirror's own token service, with this machine's login if there is one. A realm elsewhere is another host's, which
    /// this is no test of.
    async fn token(&self, challenge: &Bearer, repository: &str) -> anyhow::Result<Result<String, Problem>> {
        let realm: http::Uri = challenge.realm.parse()?;
        let host = realm.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let default = if realm.scheme_str() == Some("https") { 443 } else { 80 };
        anyhow::ensure!(
            Authority::parse(host, default)? == self.to,
            "the mirror sends its clients to {host} for a token: pullthrough would name itself"
        );
        let service = challenge.service.as_deref().unwrap_or_default().replace(' ', "%20");
        let scope = format!("repository%3A{}%3Apull", repository.replace('/', "%2F"));
        let answer =
            self.get(&format!("{}?service={service}&scope={scope}", realm.path()), self.login.basic.as_ref()).await?;
        if answer.status != StatusCode::OK {
            let Problem { words, .. } = refused(&answer, &self.to);
            return Ok(Err(Problem::new(words, self.cure(&answer))));
        }
        image::token_in(&answer).map(Ok)
    }
}

/// The mirror of a flag, which is tested as containerd asks it.
pub(super) fn named(url: crate::setup::MirrorUrl, ca: Option<&Path>) -> FoundMirror {
    let trusted = ca.map(Path::to_owned).into_iter().collect();
    FoundMirror { client: THE, file: "--mirror".into(), url, trusted, naming: MirrorNaming::Namespace }
}
