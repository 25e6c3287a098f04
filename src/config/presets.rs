//! Lists the public registries that are known by name.

/// A registry that works without further configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preset {
    /// The name in a configuration and in the metrics: a host or a pattern.
    pub(super) name: &'static str,
    /// Other hosts of the same registry.
    pub(super) aliases: &'static [&'static str],
    /// The endpoint, if it differs from the host that the client requested.
    pub(super) endpoint: Option<&'static str>,
    /// The hosts of its token service, if they differ from the registry.
    pub(super) token_hosts: &'static [&'static str],
    /// The URLs of its token service on other hosts: held credentials may be sent there.
    pub(super) realms: &'static [&'static str],
}

const fn plain(name: &'static str) -> Preset {
    Preset { name, aliases: &[], endpoint: None, token_hosts: &[], realms: &[] }
}

/// The pattern of Amazon's registries.
pub(super) const ECR: &str = "*.dkr.ecr.*.amazonaws.com";

/// All presets. `registry.gitlab.com` has a token service too (gitlab.com), but that host serves much else, so it
/// is intercepted only if `token_hosts` names it.
pub(super) const PRESETS: [Preset; 13] = [
    Preset {
        name: "docker.io",
        aliases: &["index.docker.io", "registry-1.docker.io"],
        endpoint: Some("https://registry-1.docker.io"),
        token_hosts: &["auth.docker.io"],
        realms: &["https://auth.docker.io/token"],
    },
    plain("quay.io"),
    plain("gcr.io"),
    plain("k8s.gcr.io"),
    plain("registry.k8s.io"),
    plain("ghcr.io"),
    plain("mcr.microsoft.com"),
    Preset { realms: &["https://gitlab.com/jwt/auth"], ..plain("registry.gitlab.com") },
    plain("public.ecr.aws"),
    plain("nvcr.io"),
    plain("*.pkg.dev"),
    plain("*.azurecr.io"),
    plain(ECR),
];

/// The regions of AWS under amazonaws.com (China and the sovereign cloud have other domains). They are listed because
/// the CA's name constraint is the text right of a leading star: one pattern for all regions would need all of
/// amazonaws.com.
pub(super) const REGIONS: [&str; 36] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-6",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-gov-east-1",
    "us-gov-west-1",
    "us-west-1",
    "us-west-2",
];

/// The hosts that the name or alias of a preset stands for: each a host, or a pattern whose only star is the first label.
pub(super) fn expand(name: &str) -> Vec<String> {
    if name != ECR {
        return vec![name.to_owned()];
    }
    REGIONS.iter().map(|region| format!("*.dkr.ecr.{region}.amazonaws.com")).collect()
}
