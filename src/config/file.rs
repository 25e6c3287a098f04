//! The whole configuration: each room's section, as it stands in a file.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::cache::FillConfig;
use crate::proxy::{ClientsConfig, ListenConfig, RegistryConfig, TunnelConfig};
use crate::{ca, store, telemetry, upstream};

/// The sections. One whose keys are all commented out is as good as absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    #[serde(deserialize_with = "or_default")]
    pub(super) listen: ListenConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) ca: ca::Config,
    #[serde(deserialize_with = "or_default")]
    pub(super) cache: store::Config,
    #[serde(deserialize_with = "or_default")]
    pub(super) fill: FillConfig,
    /// Absent means all presets, and no value would be ambiguous; a body may be left empty.
    #[serde(deserialize_with = "present")]
    pub(super) registries: Option<BTreeMap<String, Option<RegistryConfig>>>,
    #[serde(deserialize_with = "or_default")]
    pub(super) clients: ClientsConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) upstream: upstream::Config,
    #[serde(deserialize_with = "or_default")]
    pub(super) tunnel: TunnelConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) log: telemetry::Config,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
