//! From the tree of a file to what it says: every value is checked for itself, and told where it is wrong.
//!
//! Invariant: a value that is wrong is not in the result, and neither is the service type or the rule that it
//! belongs to: half of what somebody wrote may be worse than nothing of it.

mod values;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use styxy_protocol::{Instances, ServiceType};

use super::document::{Entry, Format, Node, Source};
use super::layer::{AutoAllocationEntry, HealthEntry, Layer, RuleEntry, TypeEntry};
use super::problem::Problem;

const CHUNK_SIZES: RangeInclusive<u16> = 1..=1000;
const GAP_SIZES: RangeInclusive<u16> = 0..=1000;
/// Milliseconds; a look costs little, but not nothing.
const CHECK_INTERVALS: RangeInclusive<u64> = 100..=86_400_000;
const MAX_FAILURES: RangeInclusive<u32> = 1..=1000;
/// Seconds.
const INSTANCE_TTLS: RangeInclusive<u64> = 1..=Duration::from_hours(30 * 24).as_secs();
const LEASES_PER_OWNER: RangeInclusive<u16> = 1..=10_000;

/// What this file says, and what is wrong with it.
pub(super) fn read(source: &Arc<Source>) -> (Layer, Vec<Problem>) {
    let root = match source.parse() {
        Ok(root) => root,
        Err(problem) => return (Layer::default(), vec![problem]),
    };
    let mut reader = Reader {
        source,
        problems: Vec::new(),
    };
    let layer = reader.layer(&root);
    (layer, reader.problems)
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    problems: Vec<Problem>,
}

/// A table that is being read, for what is said about its keys.
#[derive(Clone, Copy)]
struct Section<'a> {
    /// Its name with a dot behind, or nothing for the whole file.
    prefix: &'a str,
    /// The keys that it may have.
    keys: &'a [&'a str],
}

impl Reader<'_> {
    fn layer(&mut self, root: &Node) -> Layer {
        let section = Section {
            prefix: "",
            keys: match self.source.format {
                Format::Toml => &[
                    "service_types",
                    "auto_allocation",
                    "auto_allocation_rules",
                    "health_monitoring",
                    "daemon",
                    "instances",
                    "limits",
                ],
                Format::Json => &[],
            },
        };
        let mut layer = Layer::default();
        for entry in self.entries(root, "the configuration") {
            let (name, node) = (entry.key.as_str(), &entry.node);
            match name {
                "service_types" => layer.types = self.types(node),
                "auto_allocation" => layer.auto_allocation = self.auto_allocation(node),
                "auto_allocation_rules" => layer.rules = self.rules(node),
                "health_monitoring" => layer.health = self.health(node, name),
                "daemon" => {
                    let keys = &["listen_port"];
                    let set = |port| layer.listen_port = Some(port);
                    self.only(
                        node,
                        Section {
                            prefix: "daemon.",
                            keys,
                        },
                        Self::port,
                        set,
                    );
                }
                "instances" => {
                    let keys = &["ttl_seconds"];
                    let read = |it: &mut Self, name: &str, node: &Node| {
                        it.number(name, node, INSTANCE_TTLS)
                    };
                    let set = |ttl| layer.instance_ttl_seconds = Some(ttl);
                    self.only(
                        node,
                        Section {
                            prefix: "instances.",
                            keys,
                        },
                        read,
                        set,
                    );
                }
                "limits" => {
                    let keys = &["leases_per_owner"];
                    let read = |it: &mut Self, name: &str, node: &Node| {
                        it.number(name, node, LEASES_PER_OWNER)
                    };
                    let set = |limit: u16| layer.leases_per_owner = Some(limit.into());
                    self.only(
                        node,
                        Section {
                            prefix: "limits.",
                            keys,
                        },
                        read,
                        set,
                    );
                }
                _ if self.source.format == Format::Json => self.documented(entry, &mut layer),
                _ => self.unknown(entry, section),
            }
        }
        layer
    }

    /// What the documented format has elsewhere.
    fn documented(&mut self, entry: &Entry, layer: &mut Layer) {
        let (name, node) = (entry.key.as_str(), &entry.node);
        if name == "listen_port" {
            layer.listen_port = layer.listen_port.or(self.port(name, node));
        } else if name == "recovery" {
            for entry in self.entries(node, name) {
                if entry.key == "health_monitoring" {
                    layer.health = self.health(&entry.node, "recovery.health_monitoring");
                }
            }
        }
    }

    fn types(&mut self, node: &Node) -> Vec<TypeEntry> {
        let entries = self.entries(node, "service_types");
        let read = entries.iter().filter_map(|entry| {
            self.whole(|reader| match entry.key.parse::<ServiceType>() {
                Ok(name) => Some(reader.service_type(name, entry)),
                Err(error) => {
                    reader.problem(&entry.key_span, error.to_string());
                    None
                }
            })
        });
        read.collect()
    }

    fn service_type(&mut self, name: ServiceType, entry: &Entry) -> TypeEntry {
        let prefix = format!("service_types.{name}.");
        let section = Section {
            prefix: &prefix,
            keys: &[
                "range",
                "port_range",
                "preferred_ports",
                "instance_behavior",
                "description",
                "examples",
            ],
        };
        let mut read = TypeEntry {
            name,
            mark: self.mark(&entry.key_span),
            description: None,
            range: None,
            preferred: None,
            instances: None,
            examples: None,
            is_auto_allocated: false,
            auto_allocated_at: None,
        };
        let in_json = self.source.format == Format::Json;
        for entry in self.entries(&entry.node, prefix.trim_end_matches('.')) {
            let full = format!("{prefix}{}", entry.key);
            let (full, node) = (full.as_str(), &entry.node);
            match entry.key.as_str() {
                "range" | "port_range" => self.range(full, node, &mut read.range),
                "preferred_ports" => {
                    let ports = self.list(full, node, Self::port);
                    read.preferred = ports.map(|ports| self.said(ports, node));
                }
                "instance_behavior" => {
                    let values = [("single", Instances::Single), ("multi", Instances::Multi)];
                    read.instances = self.choice(full, node, &values);
                }
                "description" => read.description = self.text(full, node),
                "examples" => read.examples = self.list(full, node, Self::text),
                "auto_allocated" if in_json => {
                    read.is_auto_allocated = self.switch(full, node).unwrap_or_default();
                }
                "auto_allocated_at" if in_json => read.auto_allocated_at = self.text(full, node),
                _ => self.unknown(entry, section),
            }
        }
        read
    }

    fn auto_allocation(&mut self, node: &Node) -> AutoAllocationEntry {
        let section = Section {
            prefix: "auto_allocation.",
            keys: &[
                "enabled",
                "default_chunk_size",
                "placement",
                "min_port",
                "max_port",
                "preserve_gaps",
                "gap_size",
            ],
        };
        let mut read = AutoAllocationEntry::default();
        for entry in self.entries(node, "auto_allocation") {
            let full = format!("{}{}", section.prefix, entry.key);
            let (full, node) = (full.as_str(), &entry.node);
            match entry.key.as_str() {
                "enabled" => {
                    let enabled = self.switch(full, node);
                    read.enabled = enabled.map(|enabled| self.said(enabled, node));
                }
                "default_chunk_size" => {
                    read.default_chunk_size = self.number(full, node, CHUNK_SIZES);
                }
                "placement" => read.placement = self.placement(full, node),
                "min_port" => read.min_port = self.port(full, node).map(|it| self.said(it, node)),
                "max_port" => read.max_port = self.port(full, node).map(|it| self.said(it, node)),
                "preserve_gaps" => read.preserve_gaps = self.switch(full, node),
                "gap_size" => read.gap_size = self.number(full, node, GAP_SIZES),
                _ => self.unknown(entry, section),
            }
        }
        read
    }

    fn rules(&mut self, node: &Node) -> Vec<RuleEntry> {
        let entries = self.entries(node, "auto_allocation_rules");
        let read = entries
            .iter()
            .filter_map(|entry| self.whole(|reader| Some(reader.rule(entry))));
        read.collect()
    }

    fn rule(&mut self, entry: &Entry) -> RuleEntry {
        let prefix = format!("auto_allocation_rules.\"{}\".", entry.key.escape_debug());
        let section = Section {
            prefix: &prefix,
            keys: &["chunk_size", "placement", "preferred_range_start"],
        };
        let mut read = RuleEntry {
            pattern: entry.key.clone(),
            chunk_size: None,
            placement: None,
            preferred_range_start: None,
        };
        for entry in self.entries(&entry.node, prefix.trim_end_matches('.')) {
            let full = format!("{prefix}{}", entry.key);
            let (full, node) = (full.as_str(), &entry.node);
            match entry.key.as_str() {
                "chunk_size" => read.chunk_size = self.number(full, node, CHUNK_SIZES),
                "placement" => read.placement = self.placement(full, node),
                "preferred_range_start" => read.preferred_range_start = self.port(full, node),
                _ => self.unknown(entry, section),
            }
        }
        read
    }

    fn health(&mut self, node: &Node, name: &str) -> HealthEntry {
        let prefix = format!("{name}.");
        let section = Section {
            prefix: &prefix,
            keys: &[
                "enabled",
                "check_interval_ms",
                "max_failures",
                "cleanup_stale_allocations",
            ],
        };
        let mut read = HealthEntry::default();
        for entry in self.entries(node, name) {
            let full = format!("{prefix}{}", entry.key);
            let (full, node) = (full.as_str(), &entry.node);
            match entry.key.as_str() {
                "enabled" => read.enabled = self.switch(full, node),
                "check_interval_ms" => {
                    read.check_interval_ms = self.number(full, node, CHECK_INTERVALS);
                }
                "max_failures" => read.max_failures = self.number(full, node, MAX_FAILURES),
                "cleanup_stale_allocations" => {
                    read.cleanup_stale_allocations = self.switch(full, node);
                }
                _ => self.unknown(entry, section),
            }
        }
        read
    }

    /// Reads a table that may have one key alone.
    fn only<T>(
        &mut self,
        node: &Node,
        section: Section<'_>,
        read: impl Fn(&mut Self, &str, &Node) -> Option<T>,
        mut set: impl FnMut(T),
    ) {
        for entry in self.entries(node, section.prefix.trim_end_matches('.')) {
            if section.keys.contains(&entry.key.as_str()) {
                let full = format!("{}{}", section.prefix, entry.key);
                if let Some(value) = read(self, &full, &entry.node) {
                    set(value);
                }
            } else {
                self.unknown(entry, section);
            }
        }
    }
}
