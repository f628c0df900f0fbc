//! What one configuration file says, with the place where it says so. Everything in it is optional.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use styxy_protocol::api::PlacementRule;
use styxy_protocol::{Instances, Port, ServiceType};

use super::problem::Mark;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said<T> {
    pub(super) value: T,
    pub(super) mark: Mark,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) types: Vec<TypeEntry>,
    pub(super) auto_allocation: AutoAllocationEntry,
    /// In the order of the file.
    pub(super) rules: Vec<RuleEntry>,
    pub(super) health: HealthEntry,
    pub(super) listen_port: Option<Port>,
    pub(super) instance_ttl_seconds: Option<u64>,
    pub(super) leases_per_owner: Option<usize>,
}

/// What it says about one service type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeEntry {
    pub(super) name: ServiceType,
    /// The key.
    pub(super) mark: Mark,
    pub(super) description: Option<String>,
    pub(super) range: Option<Said<RangeInclusive<u16>>>,
    pub(super) preferred: Option<Said<Vec<Port>>>,
    pub(super) instances: Option<Instances>,
    pub(super) examples: Option<Vec<String>>,
    /// Auto-allocation made it.
    pub(super) is_auto_allocated: bool,
    pub(super) auto_allocated_at: Option<String>,
}

/// What it says about auto-allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AutoAllocationEntry {
    pub(super) enabled: Option<Said<bool>>,
    pub(super) default_chunk_size: Option<u16>,
    pub(super) placement: Option<PlacementRule>,
    pub(super) min_port: Option<Said<Port>>,
    pub(super) max_port: Option<Said<Port>>,
    pub(super) preserve_gaps: Option<bool>,
    pub(super) gap_size: Option<u16>,
}

/// What it says about the auto-allocation of types whose name matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleEntry {
    pub(super) pattern: String,
    pub(super) chunk_size: Option<u16>,
    pub(super) placement: Option<PlacementRule>,
    pub(super) preferred_range_start: Option<Port>,
}

/// What it says about leases that hang on no process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HealthEntry {
    pub(super) enabled: Option<bool>,
    pub(super) check_interval_ms: Option<u64>,
    pub(super) max_failures: Option<u32>,
    pub(super) cleanup_stale_allocations: Option<bool>,
}

/// A part of a file that can be left out as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A service type.
    Type(ServiceType),
    /// Lowest and highest port of auto-allocation.
    AutoAllocationBounds,
}

impl Layer {
    /// The file without these parts.
    pub(super) fn without(&self, parts: &BTreeSet<Part>) -> Self {
        let mut rest = self.clone();
        let is_kept = |entry: &TypeEntry| !parts.contains(&Part::Type(entry.name.clone()));
        rest.types.retain(is_kept);
        if parts.contains(&Part::AutoAllocationBounds) {
            rest.auto_allocation.min_port = None;
            rest.auto_allocation.max_port = None;
        }
        rest
    }
}
