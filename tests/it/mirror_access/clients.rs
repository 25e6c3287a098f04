//! Clients in shape: how each of them finds out which credentials a mirror takes.

use super::{Lab, Name, bearer_of, paths};
use crate::support::client::{Session, Whole};
use crate::support::{Image, basic_value};

/// How a client finds its way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Pings, and takes challenges from the ping alone; HEAD of the tag.
    Docker,
    /// Asks for what it wants, and takes a challenge from any answer; it tries a few times.
    Containerd,
    /// Pings without credentials, whatever it has, and takes challenges from the ping alone; GET of the tag.
    Podman,
    /// Pings, and takes a challenge for a token from any answer after that.
    Ggcr,
}

pub(super) const SHAPES: [Shape; 4] = [Shape::Docker, Shape::Containerd, Shape::Podman, Shape::Ggcr];

/// User and password.
pub(super) type Login = (&'static str, &'static str);

/// One client that pulls once.
pub(super) struct Puller<'a> {
    lab: &'a Lab,
    shape: Shape,
    name: Name,
    login: Option<Login>,
    session: Session,
    authorization: Option<String>,
}

impl<'a> Puller<'a> {
    pub(super) async fn new(lab: &'a Lab, shape: Shape, name: Name, login: Option<Login>) -> Self {
        let session = lab.session(name.host()).await;
        Self { lab, shape, name, login, session, authorization: None }
    }

    /// The status of the last answer: 200 where all of the image came.
    pub(super) async fn pull(mut self, repository: &str, image: &Image) -> u16 {
        if self.shape != Shape::Containerd {
            let ping = self.ask("GET", "/v2/").await;
            match ping.status.as_u16() {
                200 => {}
                401 => {
                    if let Err(status) = self.authenticate(&ping, repository).await {
                        return status;
                    }
                }
                status => return status,
            }
        }
        let first = if matches!(self.shape, Shape::Podman | Shape::Ggcr) { "GET" } else { "HEAD" };
        for (at, path) in paths(self.name, repository, image).iter().enumerate() {
            let mut tries = 0;
            loop {
                let answer = self.ask(if at == 0 { first } else { "GET" }, path).await;
                if answer.status == 200 {
                    assert!(answer.body.is_ok(), "{path} broke off");
                    break;
                }
                let learns = match self.shape {
                    Shape::Containerd => true,
                    Shape::Ggcr => self.authorization.as_deref().is_some_and(|value| value.starts_with("Bearer")),
                    Shape::Docker | Shape::Podman => false,
                };
                tries += 1;
                if answer.status != 401 || !learns || tries > 2 {
                    return answer.status.as_u16();
                }
                if let Err(status) = self.authenticate(&answer, repository).await {
                    return status;
                }
            }
        }
        200
    }

    async fn ask(&mut self, method: &str, path: &str) -> Whole {
        let authorization = self.authorization.clone();
        let headers = authorization.as_deref().map(|value| ("authorization", value));
        let answer = self.session.ask(method, path, headers.as_slice()).await;
        let at = format!("{:?} {:?} {method} {path}: {} {:?}", self.shape, self.name, answer.status, answer.headers);
        assert_eq!(answer.status == 401, answer.headers.contains_key("www-authenticate"), "{at}");
        let all = format!("{:?}", answer.headers);
        assert!(!all.contains("https://registry.example.com") && !all.contains("cdn"), "it is sent nowhere else: {at}");
        answer
    }

    async fn authenticate(&mut self, refused: &Whole, repository: &str) -> Result<(), u16> {
        let challenge = refused.header("www-authenticate");
        if challenge.starts_with("Basic ") {
            let (user, password) = self.login.ok_or(401_u16)?;
            let basic = basic_value(user, password);
            if self.authorization.as_ref() == Some(&basic) {
                return Err(401);
            }
            self.authorization = Some(basic);
            return Ok(());
        }
        let host = self.name.host();
        let realm = format!("Bearer realm=\"http://{host}/v2/_pullthrough/token\",service=\"{host}\"");
        assert!(challenge.starts_with(&realm), "{challenge}");
        let scope = format!("repository:{}:pull", self.name.written(repository));
        if let Some(said) = challenge.split("scope=\"").nth(1).and_then(|rest| rest.split('"').next()) {
            assert_eq!(said, scope, "the scope is for the repository as the client calls it");
        }
        let basic = self.login.map(|(user, password)| basic_value(user, password));
        let path = format!("/v2/_pullthrough/token?service={host}&scope={scope}");
        let answer = self.lab.ask(host, "GET", &path, basic.as_deref()).await;
        if answer.status != 200 {
            return Err(answer.status.as_u16());
        }
        self.authorization = Some(bearer_of(&answer));
        Ok(())
    }
}
