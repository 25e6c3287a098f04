//! Prints the next steps once at start: the address of the proxy, the CA to trust, and how to use it.
//!
//! Each line holds for this configuration: a registry is named only if it is configured, another machine only if it can
//! reach the listener.

use std::fmt::{self, Write as _};
use std::path::Path;

use super::listen::Addresses;
use crate::ca::CertificateAuthority;
use crate::host::reached_at;
use crate::proxy::Door;

/// An image of each registry that anybody may pull, to try the proxy with: the first one that is configured is used.
const SAMPLES: [(&str, &str); 6] = [
    ("quay.io", "quay.io/podman/hello"),
    ("docker.io", "docker.io/library/hello-world"),
    ("registry.k8s.io", "registry.k8s.io/pause:3.10"),
    ("ghcr.io", "ghcr.io/containerd/busybox:1.36"),
    ("mcr.microsoft.com", "mcr.microsoft.com/hello-world"),
    ("public.ecr.aws", "public.ecr.aws/docker/library/hello-world"),
];

/// What the banner tells.
pub(super) struct Banner<'a> {
    pub(super) addresses: &'a Addresses,
    pub(super) ca: &'a CertificateAuthority,
    pub(super) ca_dir: &'a Path,
    /// The configuration file, if there is one.
    pub(super) configuration: Option<&'a Path>,
    pub(super) registries: &'a [String],
    pub(super) parents: Option<&'a str>,
    /// Whether clients need a user and a password.
    pub(super) has_users: bool,
}

/// The text of the banner.
pub(super) fn words(banner: &Banner<'_>) -> String {
    let mut text = String::new();
    let _ = write(&mut text, banner); // writing to a string does not fail
    text
}

fn write(text: &mut String, banner: &Banner<'_>) -> fmt::Result {
    let Banner { addresses, ca, ca_dir, configuration, registries, parents, has_users } = banner;
    let (proxy, admin, mirror) = (addresses.proxy(), addresses.admin, addresses.of(Door::Mirror));
    let certificate = std::path::absolute(ca_dir.join("ca.crt")).unwrap_or_else(|_| ca_dir.join("ca.crt"));
    let key = certificate.with_file_name("ca.key");
    let certificate = certificate.display();
    let listens = addresses.told(Door::Proxy).unwrap_or_default();
    let reached = reached_at(proxy);
    // The script is fetched without a password.
    let (plain, url) =
        (format!("http://{reached}"), format!("http://{}{reached}", if *has_users { "USER:PASSWORD@" } else { "" }));
    let fingerprint = ca.fingerprint();
    writeln!(
        text,
        "pullthrough {} listens on {listens}; metrics on http://{admin}/metrics",
        env!("CARGO_PKG_VERSION")
    )?;
    if let Some(transparent) = addresses.told(Door::Transparent) {
        writeln!(text, "TLS by name on {transparent}, for clients that DNS or iptables leads there")?;
    }
    writeln!(text)?;
    if let Some(file) = configuration {
        writeln!(text, "configuration {}", file.display())?;
    }
    writeln!(text, "CA to trust   {certificate}   (also {plain}/ca.crt)")?;
    writeln!(text, "fingerprint   SHA-256 {fingerprint}")?;
    writeln!(text, "registries    {}", registries.join(", "))?;
    if let Some(mirror) = mirror {
        let reached = reached_at(mirror);
        writeln!(text, "mirror        {mirror}   (http://{reached} and https://{reached})")?;
    }
    if let Some(parents) = parents {
        writeln!(text, "upstream via  {parents}")?;
    }
    writeln!(text)?;
    writeln!(text, "This machine  sudo pullthrough trust install --ca {certificate}")?;
    writeln!(
        text,
        "Docker        HTTPS_PROXY={url} in the daemon's environment (systemctl edit docker), then restart it"
    )?;
    writeln!(text, "containerd    the same in containerd's environment (systemctl edit containerd), then restart it")?;
    if let Some(image) = sample(registries) {
        writeln!(text, "Podman        SSL_CERT_FILE={certificate} HTTPS_PROXY={url} podman pull {image}")?;
        writeln!(text, "Skopeo        SSL_CERT_FILE={certificate} HTTPS_PROXY={url} skopeo inspect docker://{image}")?;
    }
    writeln!(
        text,
        "k3s           CONTAINERD_HTTPS_PROXY={url} in /etc/systemd/system/k3s.service.env, then restart k3s"
    )?;
    writeln!(text, "With a script curl -fsS {plain}/setup/docker | sudo sh -s -- {fingerprint}")?;
    if *has_users {
        writeln!(text, "Replace USER and PASSWORD with those of a user of clients.htpasswd.")?;
    }
    if proxy.ip().is_loopback() {
        writeln!(text, "Only this machine reaches the proxy: listen.proxy is a loopback address.")?;
    } else {
        writeln!(text, "From another machine, replace {} with the name of this one.", reached.ip())?;
    }
    if !ca.sealed() && key.exists() {
        let seal = configuration.map(|file| format!(" --config {}", file.display())).unwrap_or_default();
        write!(
            text,
            "\nThe root key is still on this machine ({}). Once your list of registries is final, run\n\
             `pullthrough ca{seal} seal --out FILE` to move it to another medium: anyone who steals this machine can then\n\
             impersonate these registries and nothing else.\n",
            key.display()
        )?;
    }
    Ok(())
}

/// An image that can be pulled through this configuration.
fn sample(registries: &[String]) -> Option<&'static str> {
    let is_configured = |name: &&(&str, &str)| registries.iter().any(|registry| registry == name.0);
    SAMPLES.iter().find(is_configured).map(|(_, image)| *image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_suggested_only_of_a_configured_registry() {
        let registries = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(sample(&registries(&["docker.io", "quay.io"])), Some("quay.io/podman/hello"));
        assert_eq!(sample(&registries(&["ghcr.io"])), Some("ghcr.io/containerd/busybox:1.36"));
        assert_eq!(sample(&registries(&["registry.example.com"])), None);
    }
}
