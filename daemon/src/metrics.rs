//! What the daemon counts. Nothing is ever set back; everything begins at 0 with the daemon.
//!
//! `GET /metrics` shows these names in JSON, and with `styxy_` in front to Prometheus.
//!
//! | name | counts |
//! |---|---|
//! | `ports_allocated_total{service_type}` | leases that were made |
//! | `ports_released_total` | leases that have ended, for whatever reason |
//! | `allocation_errors_total` | requests for a port that got none |
//! | `port_conflicts_detected_total{service_type}` | candidates that no lease has and that the kernel refused |
//! | `auto_allocations_total` | ranges that were made for types that were not known |
//! | `auto_allocation_errors_total` | ranges that were wanted and could not be made |
//! | `state_saves_total` | changes that were written to the journal |
//! | `state_save_errors_total` | changes that could not be written |
//! | `state_loads_total` | journals that were read |
//! | `stale_allocations_cleaned_total` | leases that have ended because nobody used them (also in `ports_released_total`) |
//! | `health_checks_total` | requests for `/health` |
//! | `port_checks_total{result}` | ports that the kernel was asked about for a lease or for `/check`: `available` or `in_use` |
//! | `daemon_starts_total` | starts of this daemon: 1 |
//! | `allocation_request_duration` | milliseconds that a request for a port took (distribution) |
//! | `port_availability_check_duration` | milliseconds that the kernel took for a port (distribution) |
//! | `health_check_duration` | milliseconds that `/health` took (distribution) |
//! | `active_allocations`, `active_instances` | how many there are now |
//! | `uptime_seconds`, `resident_memory_bytes` | of the daemon, now |
//!
//! `service_type` is the name of a type that there is or was, be it styxy's own, configured or made by
//! auto-allocation. So that nobody can make series without end, those that are not styxy's own and came after the
//! first hundred count as `other`, as do types that there never were.

mod distribution;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use styxy_protocol::api::Histogram;
use styxy_protocol::{BUILTIN_SERVICE_TYPES, ServiceType};

pub(crate) use distribution::Distribution;

use crate::service_types::ServiceTypes;

/// How many types that are not styxy's own are counted by name.
const MAX_NAMED: usize = 100;
/// The label of all others.
const OTHER: &str = "other";

/// The counters; incrementing one takes nanoseconds and waits for nobody.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// The types, beside styxy's own, that are counted by name.
    named: Mutex<BTreeSet<ServiceType>>,
    allocated: Family<OfType, Counter>,
    conflicts: Family<OfType, Counter>,
    port_checks: Family<WithResult, Counter>,
    /// Leases that have ended.
    pub(crate) released: Counter,
    /// Requests for a port that got none.
    pub(crate) allocation_errors: Counter,
    /// Ranges that were made.
    pub(crate) auto_allocations: Counter,
    /// Ranges that could not be made.
    pub(crate) auto_allocation_errors: Counter,
    /// Changes that are in the journal.
    pub(crate) state_saves: Counter,
    /// Changes that are not.
    pub(crate) state_save_errors: Counter,
    /// Journals that were read.
    pub(crate) state_loads: Counter,
    /// Leases that nobody used any more.
    pub(crate) stale_cleaned: Counter,
    /// Requests for `/health`.
    pub(crate) health_checks: Counter,
    /// Starts of the daemon.
    pub(crate) daemon_starts: Counter,
    /// How long requests for a port took.
    pub(crate) allocation_duration: Distribution,
    /// How long the kernel took for a port.
    pub(crate) port_check_duration: Distribution,
    /// How long `/health` took.
    pub(crate) health_check_duration: Distribution,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfType {
    service_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WithResult {
    result: &'static str,
}

/// What is not counted but looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    /// How many leases there are.
    pub(crate) leases: usize,
    /// How many instances there are.
    pub(crate) instances: usize,
    /// Seconds since the start of the daemon.
    pub(crate) uptime: f64,
    /// Bytes of memory that are resident.
    pub(crate) resident: u64,
}

impl Metrics {
    /// Counts what is done for these types by their names from now on, as far as these are not too many.
    pub(crate) fn know(&self, types: &ServiceTypes) {
        let mut named = self.named();
        for definition in types.iter() {
            if named.len() >= MAX_NAMED {
                break;
            }
            if definition.name.builtin().is_none() {
                named.insert(definition.name.clone());
            }
        }
    }

    /// A lease was made.
    pub(crate) fn allocated(&self, service_type: &ServiceType) {
        let label = self.label(service_type);
        self.allocated.get_or_create(&label).inc();
    }

    /// A candidate for a service of this type belongs to no lease and is in use.
    pub(crate) fn conflict(&self, service_type: &ServiceType) {
        let label = self.label(service_type);
        self.conflicts.get_or_create(&label).inc();
    }

    /// The kernel was asked whether a port is free.
    pub(crate) fn port_checked(&self, is_free: bool) {
        let result = if is_free { "available" } else { "in_use" };
        self.port_checks.get_or_create(&WithResult { result }).inc();
    }

    /// Every counter by its name.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let plain = self.plain().into_iter();
        let mut counters: BTreeMap<_, _> = plain
            .map(|(name, _, counter)| (format!("{name}_total"), counter.get()))
            .collect();
        let labels = self.labels();
        for (name, family) in [
            (ALLOCATED.0, &self.allocated),
            (CONFLICTS.0, &self.conflicts),
        ] {
            for label in &labels {
                if let Some(counter) = family.get(label) {
                    let name = format!("{name}_total{{service_type=\"{}\"}}", label.service_type);
                    counters.insert(name, counter.get());
                }
            }
        }
        for result in ["available", "in_use"] {
            if let Some(counter) = self.port_checks.get(&WithResult { result }) {
                let name = format!("{}_total{{result=\"{result}\"}}", PORT_CHECKS.0);
                counters.insert(name, counter.get());
            }
        }
        counters
    }

    /// Every distribution by its name.
    pub(crate) fn histograms(&self) -> BTreeMap<String, Histogram> {
        let distributions = self.distributions().into_iter();
        distributions
            .map(|(name, _, distribution)| (name.to_owned(), distribution.histogram()))
            .collect()
    }

    /// Everything as text for Prometheus (`OpenMetrics` 1.0).
    pub(crate) fn text(&self, now: &Now) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("styxy");
        registry.register(ALLOCATED.0, ALLOCATED.1, self.allocated.clone());
        registry.register(CONFLICTS.0, CONFLICTS.1, self.conflicts.clone());
        registry.register(PORT_CHECKS.0, PORT_CHECKS.1, self.port_checks.clone());
        for (name, help, counter) in self.plain() {
            registry.register(name, help, counter.clone());
        }
        for (name, help, distribution) in self.distributions() {
            registry.register(name, help, distribution.clone());
        }
        for (name, help, value) in now.gauges() {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
        let mut out = String::new();
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    fn named(&self) -> MutexGuard<'_, BTreeSet<ServiceType>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn label(&self, service_type: &ServiceType) -> OfType {
        let is_named = service_type.builtin().is_some() || self.named().contains(service_type);
        let name = if is_named {
            service_type.as_str()
        } else {
            OTHER
        };
        OfType {
            service_type: name.to_owned(),
        }
    }

    /// Every label that there may be.
    fn labels(&self) -> Vec<OfType> {
        let own = BUILTIN_SERVICE_TYPES.iter();
        let own = own.map(|spec| spec.name.to_owned());
        let named = self.named();
        let named = named.iter().map(ToString::to_string);
        let all = own.chain(named).chain([OTHER.to_owned()]);
        all.map(|service_type| OfType { service_type }).collect()
    }

    /// The counters without labels: name without `_total`, meaning, value.
    fn plain(&self) -> [(&'static str, &'static str, &Counter); 10] {
        [
            (
                "ports_released",
                "Leases that have ended, for whatever reason",
                &self.released,
            ),
            (
                "allocation_errors",
                "Requests for a port that got none",
                &self.allocation_errors,
            ),
            (
                "auto_allocations",
                "Ranges that were made for types that were not known",
                &self.auto_allocations,
            ),
            (
                "auto_allocation_errors",
                "Ranges that were wanted and could not be made",
                &self.auto_allocation_errors,
            ),
            (
                "state_saves",
                "Changes that were written to the journal",
                &self.state_saves,
            ),
            (
                "state_save_errors",
                "Changes that could not be written to the journal",
                &self.state_save_errors,
            ),
            ("state_loads", "Journals that were read", &self.state_loads),
            (
                "stale_allocations_cleaned",
                "Leases that have ended because nobody used them",
                &self.stale_cleaned,
            ),
            ("health_checks", "Requests for /health", &self.health_checks),
            (
                "daemon_starts",
                "Starts of this daemon",
                &self.daemon_starts,
            ),
        ]
    }

    fn distributions(&self) -> [(&'static str, &'static str, &Distribution); 3] {
        [
            (
                "allocation_request_duration",
                "Milliseconds that a request for a port took",
                &self.allocation_duration,
            ),
            (
                "port_availability_check_duration",
                "Milliseconds that the kernel took for a port",
                &self.port_check_duration,
            ),
            (
                "health_check_duration",
                "Milliseconds that /health took",
                &self.health_check_duration,
            ),
        ]
    }
}

const ALLOCATED: (&str, &str) = ("ports_allocated", "Leases that were made");
const CONFLICTS: (&str, &str) = (
    "port_conflicts_detected",
    "Candidates that no lease has and that the kernel refused",
);
const PORT_CHECKS: (&str, &str) = (
    "port_checks",
    "Ports that the kernel was asked about for a lease or for /check",
);

impl Now {
    /// Name, meaning, value.
    #[expect(
        clippy::cast_precision_loss,
        reason = "numbers this large are shown, not counted with"
    )]
    pub(crate) fn gauges(&self) -> [(&'static str, &'static str, f64); 4] {
        [
            ("active_allocations", "Leases now", self.leases as f64),
            ("active_instances", "Instances now", self.instances as f64),
            (
                "uptime_seconds",
                "Seconds since the start of the daemon",
                self.uptime,
            ),
            (
                "resident_memory_bytes",
                "Resident memory of the daemon",
                self.resident as f64,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_types::Definition;

    #[test]
    fn json_and_text_say_the_same_and_types_without_end_are_one() {
        let metrics = Metrics::default();
        for name in ["dev", "dev", "mine", "yours"] {
            metrics.allocated(&name.parse().unwrap());
        }
        metrics.conflict(&"api".parse().unwrap());
        metrics.port_checked(true);
        metrics.port_checked(false);
        metrics.state_saves.inc();
        let counters = metrics.counters();
        let text = metrics.text(&Now::default()).unwrap();
        for (name, value) in [
            ("ports_allocated_total{service_type=\"dev\"}", 2),
            ("ports_allocated_total{service_type=\"other\"}", 2),
            ("port_conflicts_detected_total{service_type=\"api\"}", 1),
            ("port_checks_total{result=\"in_use\"}", 1),
            ("port_checks_total{result=\"available\"}", 1),
            ("state_saves_total", 1),
            ("ports_released_total", 0),
        ] {
            assert_eq!(counters[name], value, "{name}");
        }
        let samples = text.lines().filter(|line| line.contains("_total"));
        let samples: BTreeMap<String, u64> = samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let name = name.strip_prefix("styxy_").unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect();
        assert_eq!(samples, counters);
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn types_that_there_are_have_names_up_to_a_number_that_can_be_stored() {
        let metrics = Metrics::default();
        let mut types = ServiceTypes::builtin();
        let dev = types.get(&"dev".parse().unwrap()).unwrap().clone();
        for n in 0..1000 {
            let name: ServiceType = format!("type-{n}").parse().unwrap();
            types.insert(Definition {
                name: name.clone(),
                ..dev.clone()
            });
            metrics.know(&types);
            metrics.allocated(&name);
            // A type that is gone keeps its series: counters are never set back.
            types.remove(&name);
        }
        let counters = metrics.counters();
        let of =
            |name: &str| counters.get(&format!("ports_allocated_total{{service_type=\"{name}\"}}"));
        assert_eq!(of("type-0"), Some(&1));
        assert_eq!(of("type-99"), Some(&1));
        assert_eq!(of("type-100"), None);
        assert_eq!(of(OTHER), Some(&900));
        let text = metrics.text(&Now::default()).unwrap();
        let series = text
            .lines()
            .filter(|line| line.starts_with("styxy_ports_allocated_total"));
        assert_eq!(series.count(), MAX_NAMED + 1);
    }

    #[test]
    fn every_name_is_in_the_table_above() {
        let table = include_str!("metrics.rs").split("mod distribution").next();
        let table = table.unwrap();
        let metrics = Metrics::default();
        let counters = metrics.counters().into_keys();
        let histograms = metrics.histograms().into_keys();
        let gauges = Now::default().gauges().map(|(name, _, _)| name.to_owned());
        for name in counters.chain(histograms).chain(gauges) {
            assert!(table.contains(&format!("`{name}`")), "{name}");
        }
    }
}
