//! Checks the proxies of `upstream.proxy`: their URLs, their certificates, their users.

use super::{credentials, pem};
use crate::config::base::Base;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;
use crate::upstream::{HopConfig, ParentConfig, ProxyConfig};

/// Checks the entries; their files become relative to the folder of the configuration.
pub(crate) fn judge(proxy: &mut ProxyConfig, base: &Base, report: &mut Report<'_>) {
    let path = KeyPath::of(["upstream", "proxy"]);
    let is_from_text = report.is_overridden(&path);
    let one = proxy.0.len() == 1 || is_from_text;
    for (index, hop) in proxy.0.iter_mut().enumerate() {
        // A single entry may be written without a list, and several in one text; the path is then the key itself.
        let path = if one { path.clone() } else { path.index(index) };
        if let HopConfig::Parent(parent) = hop {
            judge_parent(parent, base, &path, report);
        }
    }
    let directs = proxy.0.iter().filter(|hop| **hop == HopConfig::Direct).count();
    if directs > 1 {
        report.say(&path, "names direct twice; expected it once");
    }
}

fn judge_parent(parent: &mut ParentConfig, base: &Base, path: &KeyPath, report: &mut Report<'_>) {
    parent.ca_file = parent.ca_file.take().map(|file| base.secret(&file));
    if let Some((key, problem)) = parent.problem() {
        match key {
            "url" if !parent.url.contains('@') => {
                report.say(path, format!("found {}; {problem}", repeated(&parent.url)));
            }
            "url" => report.say(path, problem),
            key => report.say(&path.key(key), problem),
        }
        return;
    }
    pem::judge(parent.ca_file.as_deref(), None, None, path, report);
    if parent.is_in_the_clear() && parent.auth.is_some() {
        report.notice(
            path,
            "sends its user and password in clear text; use https:// if the network in between is not trusted",
        );
    }
    if let Some(held) = &mut parent.auth {
        credentials::judge(held, base, &path.key("auth"), report);
    }
}
