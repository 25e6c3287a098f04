//! Checks how hosts are reached: the endpoints of registries and `upstream.hosts`, their files and conflicts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::pem;
use crate::config::base::Base;
use crate::config::mistakes::phrase::repeated;
use crate::config::mistakes::report::Report;
use crate::config::tree::KeyPath;
use crate::oci::Authority;
use crate::upstream::{EndpointConfig, HostConfig};

/// The settings seen so far for each host and port, and their paths.
#[derive(Debug, Default)]
pub(crate) struct KnownHosts(BTreeMap<(Authority, &'static str), (String, KeyPath)>);

/// The four keys that endpoints and hosts have in common.
struct ConnectionKeys<'a> {
    address: Option<SocketAddr>,
    ca_file: &'a mut Option<PathBuf>,
    client_cert_file: &'a mut Option<PathBuf>,
    client_key_file: &'a mut Option<PathBuf>,
}

impl KnownHosts {
    /// Checks an endpoint; its files become relative to the folder of the configuration.
    pub(crate) fn endpoint(
        &mut self,
        endpoint: &mut EndpointConfig,
        base: &Base,
        path: &KeyPath,
        report: &mut Report<'_>,
    ) {
        let parsed = EndpointUrl::parse(&endpoint.url);
        if let Err(problem) = &parsed {
            report.say(&path.key("url"), format!("found {}; {problem}", repeated(&endpoint.url)));
        }
        let keys = ConnectionKeys {
            address: endpoint.address,
            ca_file: &mut endpoint.ca_file,
            client_cert_file: &mut endpoint.client_cert_file,
            client_key_file: &mut endpoint.client_key_file,
        };
        if parsed.as_ref().is_ok_and(|parsed| !parsed.secure) {
            if keys.ca_file.is_some() || keys.client_cert_file.is_some() {
                report.say(path, "has certificates, but its url uses http; expected https");
            }
            report.notice(&path.key("url"), PLAIN);
        }
        self.judge(parsed.ok().map(|parsed| parsed.authority), keys, base, path, report);
    }

    /// Checks an entry of `upstream.hosts`.
    pub(crate) fn host(
        &mut self,
        key: &str,
        host: &mut HostConfig,
        base: &Base,
        path: &KeyPath,
        report: &mut Report<'_>,
    ) {
        let authority = Authority::parse(key, 443);
        if let Err(error) = &authority {
            report.say(path, error.to_string());
        }
        let keys = ConnectionKeys {
            address: host.address,
            ca_file: &mut host.ca_file,
            client_cert_file: &mut host.client_cert_file,
            client_key_file: &mut host.client_key_file,
        };
        self.judge(authority.ok(), keys, base, path, report);
    }

    fn judge(
        &mut self,
        authority: Option<Authority>,
        keys: ConnectionKeys<'_>,
        base: &Base,
        path: &KeyPath,
        report: &mut Report<'_>,
    ) {
        if let Some(address) = keys.address.filter(|address| address.port() == 0 || address.ip().is_unspecified()) {
            report.say(
                &path.key("address"),
                format!(
                    "found {address}; not an address to connect to; expected an address and port such as 192.0.2.10:443"
                ),
            );
        }
        let files = [
            ("ca_file", &mut *keys.ca_file),
            ("client_cert_file", &mut *keys.client_cert_file),
            ("client_key_file", &mut *keys.client_key_file),
        ];
        for (_, file) in files {
            *file = file.take().map(|file| base.secret(&file));
        }
        pem::judge(
            keys.ca_file.as_deref(),
            keys.client_cert_file.as_deref(),
            keys.client_key_file.as_deref(),
            path,
            report,
        );
        let Some(authority) = authority else { return };
        let address = keys.address.map(|address| address.to_string());
        let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string());
        let said = [
            ("address", address),
            ("ca_file", file(keys.ca_file)),
            ("client_cert_file", file(keys.client_cert_file)),
            ("client_key_file", file(keys.client_key_file)),
        ];
        for (key, value) in said {
            if let Some(value) = value {
                self.note(&authority, key, value, path, report);
            }
        }
    }

    /// Records a setting and reports a conflict: connections are shared by host and port, so two values cannot both apply.
    fn note(
        &mut self,
        authority: &Authority,
        key: &'static str,
        value: String,
        path: &KeyPath,
        report: &mut Report<'_>,
    ) {
        match self.0.get(&(authority.clone(), key)) {
            Some((earlier, _)) if *earlier == value => {}
            Some((_, place)) => {
                let text = format!("differs from {place}.{key}; expected one {key} for {authority}");
                report.say(&path.key(key), text);
            }
            None => {
                self.0.insert((authority.clone(), key), (value, path.clone()));
            }
        }
    }
}

/// The parts of an endpoint's url.
struct EndpointUrl {
    authority: Authority,
    secure: bool,
}

const PLAIN: &str = "plain HTTP: no credentials or tokens are sent there, so only content that needs none can be pulled, and its tags, \
                     lists and permissions are not protected from tampering; content by digest is verified";
const URL: &str = "not an endpoint URL; expected https://host[:port][/path], or http://";

impl EndpointUrl {
    fn parse(url: &str) -> Result<Self, &'static str> {
        if url.contains(['?', '#']) {
            return Err("has a query or a fragment; expected https://host[:port][/path] and nothing after it");
        }
        let uri: http::Uri = url.parse().map_err(|_| URL)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(URL),
        };
        let authority = uri.authority().ok_or(URL)?.as_str();
        if authority.contains('@') {
            return Err("contains a user or a password; expected none in a url");
        }
        let authority = Authority::parse(authority, if secure { 443 } else { 80 }).map_err(|_| URL)?;
        Ok(Self { authority, secure })
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_scheme_host_port_and_path() {
        let table = [
            ("https://quay.io", Some("quay.io:443")),
            ("https://quay.io/", Some("quay.io:443")),
            ("https://mirror.internal:8443/project", Some("mirror.internal:8443")),
            ("http://10.0.0.1", Some("10.0.0.1:80")),
            ("https://[2001:db8::1]:5000", Some("[2001:db8::1]:5000")),
            ("quay.io", None),
            ("ftp://quay.io", None),
            ("https://", None),
            ("https://u:p@quay.io", None),
            ("https://quay.io?x=1", None),
            ("https://quay.io/#x", None),
            ("https://quay.io:99999", None),
            ("", None),
        ];
        for (url, expected) in table {
            let parsed = EndpointUrl::parse(url).ok().map(|parsed| parsed.to_string());
            assert_eq!(parsed.as_deref(), expected, "{url}");
        }
    }
}
