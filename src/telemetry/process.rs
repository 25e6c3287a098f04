//! Collects the process metrics that every Prometheus exporter has, from the kernel at each scrape.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::readings::gauge;

/// This process. Values that cannot be read (no `/proc`) are left out.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Process {
    pub(super) fn started_now() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let cpu = ConstCounter::new(cpu_seconds());
        let help = "User and system CPU time";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = ConstGauge::new(started.as_secs_f64());
        let help = "Start of the process, in seconds since 1970";
        let name = "process_start_time_seconds";
        started.encode(encoder.encode_descriptor(name, help, None, started.metric_type())?)?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = memory(&status, "VmRSS:") {
            gauge(&mut encoder, "process_resident_memory_bytes", "Resident memory", bytes)?;
        }
        if let Some(bytes) = memory(&status, "VmSize:") {
            gauge(&mut encoder, "process_virtual_memory_bytes", "Virtual memory", bytes)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            gauge(&mut encoder, "process_open_fds", "Open files", files.count() as u64)?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            gauge(&mut encoder, "process_max_fds", "Limit of open files", limit)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// A line of `/proc/self/status` such as `VmRSS:     1234 kB`, in bytes.
fn memory(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmSize:\t  2000 kB\nVmRSS:\t     300 kB\n";
        assert_eq!(memory(status, "VmRSS:"), Some(300 * 1024));
        assert_eq!(memory(status, "VmSize:"), Some(2000 * 1024));
        assert_eq!(memory("VmRSS:\tmuch\n", "VmRSS:"), None);
        assert_eq!(memory("", "VmRSS:"), None);
    }
}
