//! Sends a plain http request through a parent: in absolute-form (RFC 9112, 3.2.2), on a connection of its own.
//!
//! The user and password are for the parent that the connection is to. A pool would have to know to whom each of its
//! connections goes; plain endpoints are few, and a connection for each request is near to free beside that.

use std::sync::Arc;

use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::oci::Authority;
use crate::upstream::Error;
use crate::upstream::endpoint::implied_port;
use crate::upstream::net::egress::Forwarding;
use crate::wire::Body;

/// Sends `request`, whose URI is absolute.
pub(crate) async fn ask(
    forwarding: Forwarding<'_>,
    to: &Authority,
    mut request: Request<Body>,
) -> Result<Response<Incoming>, Error> {
    let Forwarding { parent, stream, login } = forwarding;
    let failed = |error: hyper::Error| match error.is_parse() {
        true => Error::Unreadable { to: to.clone(), source: Arc::new(error) },
        false => Error::Exchange { to: to.clone(), source: Arc::new(error) },
    };
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(&to.short(implied_port(false))) {
        headers.insert(HOST, host);
    }
    match login {
        Some(login) => headers.insert(PROXY_AUTHORIZATION, login),
        None => headers.remove(PROXY_AUTHORIZATION),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection); // what ends it is seen by the request
    let answer = sender.send_request(request).await.map_err(failed)?;
    parent.heard(to, &answer)?;
    Ok(answer)
}
