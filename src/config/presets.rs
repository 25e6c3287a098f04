//! The public registries that are known by name.

/// A registry that needs no body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preset {
    /// Its name in a configuration and in the metrics: a host or a pattern.
    pub(super) name: &'static str,
    /// Further hosts of the same registry.
    pub(super) aliases: &'static [&'static str],
    /// Where it is asked, if that is not the host that the client asked.
    pub(super) endpoint: Option<&'static str>,
    /// The hosts of its token service, where that is not the registry.
    pub(super) token_hosts: &'static [&'static str],
    /// Its token service's URLs, where they are on another host: held credentials may go there.
    pub(super) realms: &'static [&'static str],
}

const fn plain(name: &'static str) -> Preset {
    Preset { name, aliases: &[], endpoint: None, token_hosts: &[], realms: &[] }
}

/// The pattern of Amazon's registries.
pub(super) const ECR: &str = "*.dkr.ecr.*.amazonaws.com";

/// All of them. `registry.gitlab.com` has a token service too (gitlab.com), but that host serves much else: it
/// is intercepted only if `token_hosts` says so.
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

/// The regions of AWS under amazonaws.com (China's and the sovereign cloud's domains are others). They are
/// listed because the CA's constraint is the text right of a leading star: for one pattern over all regions it
/// would be amazonaws.com as a whole.
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

/// The hosts that a preset's name or alias stands for, each a host or a pattern with a star in front only.
pub(super) fn expand(name: &str) -> Vec<String> {
    if name != ECR {
        return vec![name.to_owned()];
    }
    REGIONS.iter().map(|region| format!("*.dkr.ecr.{region}.amazonaws.com")).collect()
}
