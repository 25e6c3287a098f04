//! Paces passwords for a registry that come from somebody who is not known to have a right.
//!
//! Where the registry answers itself, it paces them itself. Where this proxy does, because the registry is away or throttles,
//! because the proxy holds credentials of its own, or because it is never asked (`_catalog`), they are paced here.

use http::StatusCode;

use crate::cache::{Place, Trust};
use crate::oci::Repository;
use crate::proxy::clients::Guess;
use crate::proxy::context::Context;
use crate::proxy::respond::{self, Failure};
use crate::proxy::tokens::bearers;
use crate::proxy::tokens::request::TokenRequest;

/// Delays a request for a token with a password as long as it must wait. `None` where it is not a guess: it has no
/// password, or that of somebody who has shown a right in a repository of the token.
///
/// # Errors
/// Too many passwords from its address are being checked.
pub(crate) async fn admit<'a>(
    context: &Context<'a>,
    token_request: &TokenRequest,
) -> Result<Option<Guess<'a>>, Failure> {
    let Some((user, mac)) = offered(context, token_request) else { return Ok(None) };
    if has_shown_a_right(context, token_request, &mac) { Ok(None) } else { wait(context, &user, mac).await.map(Some) }
}

/// Whether [`admit`] would take it for no guess.
pub(crate) fn is_known(context: &Context<'_>, token_request: &TokenRequest) -> bool {
    offered(context, token_request).is_none_or(|(_, mac)| has_shown_a_right(context, token_request, &mac))
}

fn offered(context: &Context<'_>, token_request: &TokenRequest) -> Option<(String, [u8; 32])> {
    Some((token_request.user()?, bearers::mac(&context.proxy.cache, token_request.credential()?)))
}

fn has_shown_a_right(context: &Context<'_>, token_request: &TokenRequest, mac: &[u8; 32]) -> bool {
    places(context, token_request).any(|place| is_granted(context, &place, mac))
}

/// Whether anybody may read everything that the token is for: then nobody's token will do, and reveals nothing.
pub(crate) async fn is_for_all(context: &Context<'_>, token_request: &TokenRequest) -> bool {
    let mut places = places(context, token_request).peekable();
    if places.peek().is_none() {
        return false;
    }
    for place in places {
        if !is_public(context, &place).await {
            return false;
        }
    }
    true
}

/// The same as [`admit`] for a read in `repository` with a password while the registry is unreachable or throttles.
///
/// # Errors
/// As [`admit`].
pub(crate) async fn admit_reader(context: &Context<'_>, repository: &Repository) -> Result<(), Failure> {
    let Some((user, mac)) = carried(context) else { return Ok(()) };
    let place = Place { registry: context.origin.clone(), repository: repository.clone() };
    if is_granted(context, &place, &mac) || is_public(context, &place).await {
        return Ok(());
    }
    wait(context, &user, mac).await.map(drop)
}

/// The same as [`admit`] for a question about all repositories, with a password of somebody who has shown a right in none of
/// them.
///
/// # Errors
/// As [`admit`].
pub(crate) async fn admit_stranger(context: &Context<'_>) -> Result<(), Failure> {
    let Some((user, mac)) = carried(context) else { return Ok(()) };
    wait(context, &user, mac).await.map(drop)
}

/// The user, and the MAC of user and password, of the request.
fn carried(context: &Context<'_>) -> Option<(String, [u8; 32])> {
    let credential = context.authorization.as_ref()?;
    Some((credential.user()?, bearers::mac(&context.proxy.cache, credential)))
}

fn places(context: &Context<'_>, token_request: &TokenRequest) -> impl Iterator<Item = Place> {
    let names = token_request.scopes().iter().filter_map(|scope| scope.strip_prefix("repository:")?.rsplit_once(':'));
    let repositories = names.filter_map(|(name, _)| name.parse().ok());
    repositories.map(|repository| Place { registry: context.origin.clone(), repository })
}

fn is_granted(context: &Context<'_>, place: &Place, mac: &[u8; 32]) -> bool {
    let cache = &context.proxy.cache;
    cache.is_granted(place, &cache.principal(&context.origin, Some(mac)), &trust(context))
}

async fn is_public(context: &Context<'_>, place: &Place) -> bool {
    context.proxy.cache.is_public(place, &trust(context)).await.is_some()
}

/// As in an outage, for which a right is believed for the longest.
fn trust(context: &Context<'_>) -> Trust {
    Trust { lives: context.registry.lives(), away: true, ..Trust::default() }
}

async fn wait<'a>(context: &Context<'a>, user: &str, mac: [u8; 32]) -> Result<Guess<'a>, Failure> {
    context.proxy.guesses.admit(context.client, user, mac).await.ok_or_else(respond::too_many_passwords)
}

/// Notes what the registry said of a guess.
pub(crate) fn judged(guess: Option<Guess<'_>>, status: StatusCode) {
    match (guess, status) {
        (Some(guess), StatusCode::OK) => guess.was_right(),
        (Some(guess), status) if status.is_server_error() => guess.was_not_judged(),
        (_, _) => {} // it counts as wrong
    }
}
