//! Hosts that are no cell's registry, to which some redirect: a login page, and a server of content.

use super::honest::{self, Answer, Asked};
use super::site::Sites;
use super::steps::Step;
use super::upstream::DOMAIN;

/// Answers everything with a page that names what was asked for.
pub(super) fn login() -> String {
    format!("login.{DOMAIN}")
}

/// Has the content of every registry, under `/HOST/v2/...`.
pub(super) fn cdn() -> String {
    format!("cdn.{DOMAIN}")
}

pub(super) fn answer(sites: &Sites, asked: &Asked) -> Vec<Step> {
    let answer = if asked.host == cdn() { content(sites, asked) } else { None };
    let answer =
        answer.unwrap_or_else(|| Answer::new(200, "text/html", format!("<html>log in for {}</html>", asked.path)));
    vec![Step::Say(answer.message(asked))]
}

fn content(sites: &Sites, asked: &Asked) -> Option<Answer> {
    let (host, path) = asked.path.strip_prefix('/')?.split_once('/')?;
    Some(honest::public(&sites.get(host)?.things, &Asked { path: format!("/{path}"), ..asked.clone() }))
}
