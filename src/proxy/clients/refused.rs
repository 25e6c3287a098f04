//! Notes requests that the proxy refuses, at whatever door, each as one line of the audit log.
//!
//! A request to a registry is noted by its clearance, which knows more of it; here is the rest: a
//! form that HTTP does not have, a host that the connection is not for, a place that may not be reached, a password.
//! Never: a query, a user's password, a header, but the name of the host.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{Method, Request, StatusCode};

use super::{AuditLine, AuditOutcome, Client, Clients};
use crate::oci::Authority;

/// The facts of a request for the audit log, kept while it is answered.
pub(crate) struct RefusedRequest {
    client: IpAddr,
    method: Method,
    host: Option<String>,
    path: Option<String>,
}

impl RefusedRequest {
    /// Nothing where nothing is written down.
    pub(crate) fn of<B>(clients: &Clients, client: IpAddr, request: &Request<B>) -> Option<Self> {
        clients.audit.as_ref()?;
        let uri = request.uri();
        let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = uri.authority().map(http::uri::Authority::as_str).or_else(header);
        let host = host.map(|host| AuditLine::cut(host.rsplit('@').next().unwrap_or_default()));
        let path = Some(uri.path()).filter(|path| !path.is_empty() && *request.method() != Method::CONNECT);
        Some(Self { client, method: request.method().clone(), host, path: path.map(AuditLine::cut) })
    }

    /// Notes that it was refused, with this status and reason.
    pub(crate) fn note(
        self,
        clients: &Clients,
        user: Option<Arc<str>>,
        registry: Option<Arc<str>>,
        status: StatusCode,
        reason: &str,
    ) {
        let Some(audit) = &clients.audit else { return };
        let Self { client, method, host, path } = self;
        let line = AuditLine::new(client, AuditOutcome::Refused, status.as_u16());
        audit.write(AuditLine {
            user,
            registry,
            host,
            method: Some(method),
            path,
            reason: Some(AuditLine::cut(reason)),
            ..line
        });
    }
}

/// Notes a tunnel to `authority` that was closed since its TLS asks for a registry: misdirected (RFC 9110, 15.5.20), as
/// a request would be.
pub(crate) fn note_tunnel(clients: &Clients, client: &Client, authority: &Authority, reason: &str) {
    let Some(audit) = &clients.audit else { return };
    let line = AuditLine::new(client.from.address, AuditOutcome::Refused, StatusCode::MISDIRECTED_REQUEST.as_u16());
    audit.write(AuditLine {
        user: client.user.clone(),
        host: Some(AuditLine::cut(&authority.to_string())),
        method: Some(Method::CONNECT),
        reason: Some(AuditLine::cut(reason)),
        ..line
    });
}

/// The same where the HTTP library could not read a request, and has refused it itself.
pub(crate) fn note_unread(
    clients: &Clients,
    client: IpAddr,
    user: Option<&Arc<str>>,
    registry: Option<&Arc<str>>,
    error: &io::Error,
) {
    let unread =
        error.get_ref().and_then(|error| error.downcast_ref::<hyper::Error>()).filter(|error| error.is_parse());
    let (Some(error), Some(audit)) = (unread, &clients.audit) else { return };
    let status = if error.is_parse_too_large() { 431 } else { 400 };
    audit.write(AuditLine {
        user: user.cloned(),
        registry: registry.cloned(),
        reason: Some(AuditLine::cut(&error.to_string())),
        ..AuditLine::new(client, AuditOutcome::Refused, status)
    });
}
