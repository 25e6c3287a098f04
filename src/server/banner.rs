//! Prints the next steps once at start: the address of the proxy, the CA to trust, and how to use it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::ca::CertificateAuthority;
use crate::host::reached_at;

/// The text of the banner. `proxy` is the address of the listener.
pub(super) fn words(
    proxy: SocketAddr,
    admin: SocketAddr,
    ca: &CertificateAuthority,
    dir: &Path,
    registries: &[String],
    parents: Option<&str>,
) -> String {
    let certificate = std::path::absolute(dir.join("ca.crt")).unwrap_or_else(|_| dir.join("ca.crt"));
    let reached = reached_at(proxy);
    let (host, url) = (reached.ip(), format!("http://{reached}"));
    let mut text = format!(
        "pullthrough {version} listens on {proxy}; metrics on http://{admin}/metrics\n\
         \n\
         CA to trust   {certificate}   (also {url}/ca.crt)\n\
         fingerprint   SHA-256 {fingerprint}\n\
         registries    {registries}\n\
         {parents}\n\
         This machine  sudo cp {certificate} /usr/local/share/ca-certificates/pullthrough.crt && sudo update-ca-certificates\n\
         Docker        HTTPS_PROXY={url} in the daemon's environment (systemctl edit docker), then restart it\n\
         containerd    the same in containerd's environment (systemctl edit containerd), then restart it\n\
         Podman        SSL_CERT_FILE={certificate} HTTPS_PROXY={url} podman pull quay.io/podman/hello\n\
         Skopeo        SSL_CERT_FILE={certificate} HTTPS_PROXY={url} skopeo inspect docker://quay.io/podman/hello\n\
         k3s           CONTAINERD_HTTPS_PROXY={url} in /etc/systemd/system/k3s.service.env, then restart k3s\n\
         With a script curl -fsS {url}/setup/docker | sudo sh -s -- {fingerprint}\n\
         From another machine, replace {host} with the name of this one.\n",
        version = env!("CARGO_PKG_VERSION"),
        certificate = certificate.display(),
        fingerprint = ca.fingerprint(),
        registries = registries.join(", "),
        parents = parents.map(|parents| format!("upstream via  {parents}\n")).unwrap_or_default(),
    );
    if !ca.sealed() {
        let key = certificate.with_file_name("ca.key");
        let _ = write!(
            text,
            "\nThe root key is still on this machine ({}). Once your list of registries is final, run\n\
             `pullthrough ca seal --out FILE` to move it to another medium: anyone who steals this machine can then impersonate these registries\n\
             and nothing else.\n",
            key.display()
        );
    }
    text
}
