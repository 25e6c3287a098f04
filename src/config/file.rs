//! Defines the sections of a configuration file, one for each room.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::cache::FillConfig;
use crate::host::Period;
use crate::proxy::{ClientsConfig, ListenConfig, MirrorConfig, RegistryConfig, TunnelConfig};
use crate::{ca, store, telemetry, upstream};

/// The sections. A section whose keys are all commented out counts as absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    #[serde(deserialize_with = "or_default")]
    pub(super) listen: ListenConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) mirror: MirrorConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) ca: ca::Config,
    #[serde(deserialize_with = "or_default")]
    pub(super) cache: store::Config,
    #[serde(deserialize_with = "or_default")]
    pub(super) fill: FillConfig,
    /// Absent means all presets. The key without a value would be ambiguous and is refused; the body of an entry may be empty.
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
    /// How long SIGTERM lets transfers go on.
    pub(super) drain: Option<Period>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
