//! Knows who is on the other side of a connection, and admits clients with a password.

use std::sync::Arc;

use http::StatusCode;
use http::header::{
    AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE,
};

use super::{Admission, Audit, Logins, Offer, Rules};
use crate::oci::{Challenge, Code};
use crate::proxy::respond::Failure;
use crate::proxy::site::Arrival;

/// A client: where it comes from, and the user that it has proven to be.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address, and its door.
    pub from: Arrival,
    /// Its user of `clients.htpasswd`.
    pub user: Option<Arc<str>>,
}

/// The `clients:` section, ready for use.
#[derive(Clone, Default)]
pub struct Clients {
    /// Users and passwords; `None` where no password is needed.
    pub logins: Option<Logins>,
    /// The rules for pulls and pushes.
    pub rules: Rules,
    /// Where manifests pulled and refused are written down.
    pub audit: Option<Audit>,
}

/// As what a client asks for its password: a proxy, or the server that it talks to.
struct Asker {
    field: HeaderName,
    challenge: HeaderName,
    status: StatusCode,
    missing: &'static str,
}

const AS_PROXY: Asker = Asker {
    field: PROXY_AUTHORIZATION,
    challenge: PROXY_AUTHENTICATE,
    status: StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    missing: "this proxy requires a user and a password: set http://USER:PASSWORD@HOST:PORT as the proxy's URL",
};

const AS_MIRROR: Asker = Asker {
    field: AUTHORIZATION,
    challenge: WWW_AUTHENTICATE,
    status: StatusCode::UNAUTHORIZED,
    missing: "this mirror requires a user and a password: log in to it",
};

impl Clients {
    /// Admits a client of the proxy that sends these headers.
    ///
    /// # Errors
    /// The answer to a client that is not admitted: 407 with a challenge (RFC 9110, 15.5.8), or 503.
    pub(crate) async fn admit(&self, from: Arrival, headers: &HeaderMap) -> Result<Client, Box<Failure>> {
        self.admit_by(&AS_PROXY, from, headers).await
    }

    /// The same at the mirror, which is the server itself to its clients: 401 with a challenge (RFC 9110, 15.5.2), or 503.
    ///
    /// # Errors
    /// As [`Clients::admit`].
    pub(crate) async fn admit_to_mirror(&self, from: Arrival, headers: &HeaderMap) -> Result<Client, Box<Failure>> {
        self.admit_by(&AS_MIRROR, from, headers).await
    }

    async fn admit_by(&self, asker: &Asker, from: Arrival, headers: &HeaderMap) -> Result<Client, Box<Failure>> {
        let Some(logins) = &self.logins else { return Ok(Client { from, user: None }) };
        let offer = headers.get(&asker.field).and_then(|header| Offer::parse(header).ok());
        let admission = match &offer {
            Some(offer) => logins.verify(from.address, offer).await,
            None => Admission::Wrong,
        };
        match admission {
            Admission::Welcome(user) => Ok(Client { from, user: Some(user) }),
            Admission::Busy => {
                let message = "too many passwords are being verified; try again";
                Err(Box::new(Failure::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    Code::Unavailable,
                    "proxy_internal_error",
                    message,
                )))
            }
            Admission::Wrong => {
                let message = match offer {
                    Some(_) => "the user or password for this proxy is wrong",
                    None => asker.missing,
                };
                let failure = Failure::new(asker.status, Code::Unauthorized, "http_request_denied", message);
                let challenge = Challenge::Basic { realm: Some("pullthrough".to_owned()) }.to_string();
                Err(Box::new(match HeaderValue::from_str(&challenge) {
                    Ok(value) => failure.with(asker.challenge.clone(), value),
                    Err(_) => failure,
                }))
            }
        }
    }
}
