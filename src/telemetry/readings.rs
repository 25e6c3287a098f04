//! Collects at each scrape the values that other rooms count themselves.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// The values at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Bytes of blobs and fills on disk.
    pub cache_bytes: u64,
    /// The limit of `cache_bytes`.
    pub cache_limit_bytes: u64,
    /// Committed blobs.
    pub cache_entries: u64,
    /// Bytes free for the cache on its file system.
    pub disk_free_bytes: u64,
    /// The size of that file system.
    pub disk_size_bytes: u64,
    /// Whether the cache's disk is full, failing, hanging, read-only, or not writable by the proxy, so that pulls continue uncached.
    pub disk_trouble: bool,
    /// Blobs evicted since the start.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Damaged chunks of blobs found since the start.
    pub damaged_chunks: u64,
    /// Leaf certificates minted since the start.
    pub leaf_certificates: u64,
    /// Lines of the audit log lost since it was opened.
    pub audit_lines_lost: u64,
    /// Tasks of the runtime that have not ended: connections, requests, fills, timers.
    pub tasks: u64,
    /// The resources in use.
    pub uses: Vec<Use>,
    /// The reasons for which work was refused or given up at a limit since the start, each with its count.
    pub refused: Vec<(&'static str, u64)>,
    /// The registries' endpoints.
    pub endpoints: Vec<EndpointUp>,
    /// The registries.
    pub registries: Vec<RegistryReading>,
}

/// Whether one endpoint of a registry is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointUp {
    /// The registry's configured name.
    pub registry: Arc<str>,
    /// The endpoint's URL.
    pub endpoint: String,
    /// Whether it is reachable, as far as requests and probes have shown.
    pub is_up: bool,
}

/// The state of one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryReading {
    /// Its configured name.
    pub registry: Arc<str>,
    /// Whether it, or its token service, is unreachable.
    pub is_out: bool,
    /// The pulls left in its rate limit, if it said so in the limit's window.
    pub pulls_left: Option<u64>,
}

/// The usage of a limited resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// The resource: the value of the label.
    pub what: &'static str,
    /// The usage: a number, or bytes.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// Holds the observer. Without one it reports nothing.
#[derive(Default)]
pub(super) struct Observed {
    observer: Mutex<Option<Box<dyn Fn() -> Readings + Send + Sync>>>,
    ca_expiry: Mutex<Option<SystemTime>>,
}

impl Observed {
    pub(super) fn observe(&self, observer: Box<dyn Fn() -> Readings + Send + Sync>) {
        *self.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    pub(super) fn ca(&self, expiry: SystemTime) {
        *self.ca_expiry.lock().unwrap_or_else(PoisonError::into_inner) = Some(expiry);
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let readings = self.observer.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|observe| observe());
        if let Some(readings) = readings {
            gauge(&mut encoder, "cache_bytes", "Bytes of blobs and fills on disk", readings.cache_bytes)?;
            gauge(&mut encoder, "cache_limit_bytes", "Limit of cache_bytes", readings.cache_limit_bytes)?;
            gauge(&mut encoder, "cache_entries", "Blobs in the cache", readings.cache_entries)?;
            gauge(&mut encoder, "disk_free_bytes", "Bytes free for the cache directory", readings.disk_free_bytes)?;
            gauge(&mut encoder, "disk_size_bytes", "Size of the cache's file system", readings.disk_size_bytes)?;
            let trouble = u64::from(readings.disk_trouble);
            gauge(
                &mut encoder,
                "disk_trouble",
                "Whether the disk cannot be written: full, failing or read-only",
                trouble,
            )?;
            counter(&mut encoder, "evictions", "Evicted blobs", readings.evictions)?;
            counter(&mut encoder, "evicted_bytes", "Bytes of evicted blobs", readings.evicted_bytes)?;
            let help = "Damaged chunks of blobs found on the disk";
            counter(&mut encoder, "damaged_chunks", help, readings.damaged_chunks)?;
            counter(&mut encoder, "leaf_certificates", "Minted leaf certificates", readings.leaf_certificates)?;
            counter(&mut encoder, "audit_lines_lost", "Lost lines of the audit log", readings.audit_lines_lost)?;
            gauge(&mut encoder, "tasks", "Tasks that have not ended", readings.tasks)?;
            let help = "Limit of a resource; buffers and answers in bytes";
            let mut limits = encoder.encode_descriptor("limit", help, None, MetricType::Gauge)?;
            for one in &readings.uses {
                ConstGauge::new(one.limit).encode(limits.encode_family(&[("what", one.what)])?)?;
            }
            let help = "Current use of a resource; buffers and answers in bytes";
            let mut in_use = encoder.encode_descriptor("in_use", help, None, MetricType::Gauge)?;
            for one in &readings.uses {
                ConstGauge::new(one.used).encode(in_use.encode_family(&[("what", one.what)])?)?;
            }
            let help = "Work refused or given up at a limit, by reason";
            let mut refused = encoder.encode_descriptor("refused", help, None, MetricType::Counter)?;
            for (reason, count) in &readings.refused {
                ConstCounter::new(*count).encode(refused.encode_family(&[("reason", *reason)])?)?;
            }
            upstreams(&mut encoder, &readings)?;
        }
        let expiry = *self.ca_expiry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seconds) = expiry.and_then(|time| time.duration_since(UNIX_EPOCH).ok()) {
            let help = "Expiry of the CA's first certificate to expire, in seconds since 1970";
            gauge(&mut encoder, "ca_expiry_timestamp_seconds", help, seconds.as_secs())?;
        }
        Ok(())
    }
}

/// What is known of the registries.
fn upstreams(encoder: &mut DescriptorEncoder, readings: &Readings) -> fmt::Result {
    let help = "Whether an endpoint is reachable";
    let mut ups = encoder.encode_descriptor("upstream_up", help, None, MetricType::Gauge)?;
    for one in &readings.endpoints {
        let labels = [("registry", &*one.registry), ("endpoint", &*one.endpoint)];
        ConstGauge::new(u64::from(one.is_up)).encode(ups.encode_family(&labels)?)?;
    }
    let help = "Whether a registry or its token service is unreachable";
    let mut outages = encoder.encode_descriptor("outage", help, None, MetricType::Gauge)?;
    for one in &readings.registries {
        ConstGauge::new(u64::from(one.is_out)).encode(outages.encode_family(&[("registry", &*one.registry)])?)?;
    }
    let help = "What is left of the rate limit";
    let mut left = encoder.encode_descriptor("upstream_ratelimit_remaining", help, None, MetricType::Gauge)?;
    for one in &readings.registries {
        if let Some(pulls) = one.pulls_left {
            ConstGauge::new(pulls).encode(left.encode_family(&[("registry", &*one.registry)])?)?;
        }
    }
    Ok(())
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

pub(super) fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}
