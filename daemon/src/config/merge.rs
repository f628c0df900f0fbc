//! The files together: each says what differs from the ones before it, down to the single key.
//!
//! Pure. Invariant: settings that are made without a fault have disjoint ranges, preferred ports inside of them,
//! and a lowest port of auto-allocation below its highest.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use styxy_protocol::api::{AutoAllocation, AutoAllocationRule, HealthMonitoring, TypeSource};
use styxy_protocol::{Instances, Port, ServiceType};

use super::document::Format;
use super::layer::{AutoAllocationEntry, HealthEntry, Layer, Part, RuleEntry, Said, TypeEntry};
use super::problem::{Mark, Problem};
use crate::service_types::{Definition, ServiceTypes, first_ports};
use crate::settings::Settings;

/// Something that the files say together and that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) problem: Problem,
    /// The file (by its position) and the part of it without which it would be gone.
    pub(super) culprit: (usize, Part),
}

/// What the layers say, the last one having the last word, and what of it cannot be.
pub(super) fn merge(layers: &[Layer]) -> (Settings, Vec<Fault>) {
    let mut settings = Settings::default();
    let (types, mut faults) = merge_types(layers);
    settings.types = types;
    faults.extend(merge_auto_allocation(&mut settings.auto_allocation, layers));
    for layer in layers {
        merge_rules(&mut settings.rules, &layer.rules);
        merge_health(&mut settings.health_monitoring, &layer.health);
        settings.listen_port = layer.listen_port.or(settings.listen_port);
        if let Some(seconds) = layer.instance_ttl_seconds {
            settings.instance_ttl = Duration::from_secs(seconds);
        }
        set(&mut settings.leases_per_owner, layer.leases_per_owner);
    }
    (settings, faults)
}

fn set<T>(value: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *value = said;
    }
}

/// A type that is being put together, and who has said what.
struct Draft {
    definition: Definition,
    /// Where the range was said; `None` if it is styxy's own.
    range_by: Option<(usize, Mark)>,
    preferred_by: Option<(usize, Mark)>,
}

fn merge_types(layers: &[Layer]) -> (ServiceTypes, Vec<Fault>) {
    let mut faults = Vec::new();
    let builtin = ServiceTypes::builtin();
    let mut drafts: BTreeMap<ServiceType, Draft> = builtin
        .iter()
        .map(|definition| (definition.name.clone(), Draft::of(definition.clone())))
        .collect();
    for (layer, said) in layers.iter().enumerate() {
        for entry in &said.types {
            if let Some(draft) = drafts.get_mut(&entry.name) {
                draft.change(layer, entry);
            } else if let Some(range) = &entry.range {
                let mut draft = Draft::of(nothing_but(&entry.name, &range.value));
                draft.change(layer, entry);
                drafts.insert(entry.name.clone(), draft);
            } else {
                let name = &entry.name;
                faults.push(Fault {
                    problem: entry.mark.problem(format!(
                        "service type `{name}` has no range; say `range = [first, last]`"
                    )),
                    culprit: (layer, Part::Type(name.clone())),
                });
            }
        }
    }
    faults.extend(drafts.values_mut().filter_map(Draft::settle_preferred));
    faults.extend(overlaps(&drafts));
    let mut types = ServiceTypes::default();
    for draft in drafts.into_values() {
        types.insert(draft.definition);
    }
    (types, faults)
}

fn nothing_but(name: &ServiceType, range: &RangeInclusive<u16>) -> Definition {
    Definition {
        name: name.clone(),
        description: String::new(),
        preferred: Vec::new(),
        range: range.clone(),
        instances: Instances::Multi,
        examples: Vec::new(),
        source: TypeSource::Builtin,
        auto_allocated_at: None,
    }
}

impl Draft {
    fn of(definition: Definition) -> Self {
        Self {
            definition,
            range_by: None,
            preferred_by: None,
        }
    }

    fn change(&mut self, layer: usize, entry: &TypeEntry) {
        let definition = &mut self.definition;
        let format = entry.mark.source.format;
        if let Some(range) = &entry.range {
            definition.range = range.value.clone();
            self.range_by = Some((layer, range.mark.clone()));
        }
        if let Some(preferred) = &entry.preferred {
            definition.preferred.clone_from(&preferred.value);
            self.preferred_by = Some((layer, preferred.mark.clone()));
        }
        if entry.is_auto_allocated {
            definition.source = TypeSource::AutoAllocated;
            definition
                .auto_allocated_at
                .clone_from(&entry.auto_allocated_at);
            // Other versions have written four ports where the range has fewer.
            let range = definition.range.clone();
            definition
                .preferred
                .retain(|port| range.contains(&port.get()));
        } else if definition.source != TypeSource::AutoAllocated || entry.range.is_some() {
            definition.source = match format {
                Format::Toml => TypeSource::ConfigToml,
                Format::Json => TypeSource::ConfigJson,
            };
            definition.auto_allocated_at = None;
        }
        set(&mut definition.description, entry.description.clone());
        set(&mut definition.instances, entry.instances);
        set(&mut definition.examples, entry.examples.clone());
    }

    /// Preferred ports that were said together with the range or after it have to lie in it; those that were
    /// said before, of another range, give way to its first ports.
    fn settle_preferred(&mut self) -> Option<Fault> {
        let definition = &mut self.definition;
        let layer_of = |by: &Option<(usize, Mark)>| by.as_ref().map(|(layer, _)| *layer);
        let is_outside = |port: &&Port| !definition.range.contains(&port.get());
        let outside = definition.preferred.iter().find(is_outside).copied();
        if layer_of(&self.preferred_by) < layer_of(&self.range_by) {
            if outside.is_some() || definition.preferred.is_empty() {
                definition.preferred = first_ports(&definition.range);
            }
            return None;
        }
        let (port, (layer, mark)) = (outside?, self.preferred_by.as_ref()?);
        let (first, last) = (definition.range.start(), definition.range.end());
        let name = &definition.name;
        Some(Fault {
            problem: mark.problem(format!(
                "preferred port {port} of service type `{name}` is not in its range {first}-{last}"
            )),
            culprit: (*layer, Part::Type(name.clone())),
        })
    }
}

/// Every pair of ranges with a common port. To blame is what was said last: in the last file, or behind in it.
fn overlaps(drafts: &BTreeMap<ServiceType, Draft>) -> Vec<Fault> {
    let mut by_start: Vec<&Draft> = drafts.values().collect();
    by_start.sort_by_key(|draft| *draft.definition.range.start());
    let mut faults = Vec::new();
    for (at, one) in by_start.iter().enumerate() {
        let end = *one.definition.range.end();
        let reached = by_start[at + 1..].iter();
        let reached = reached.take_while(|other| *other.definition.range.start() <= end);
        faults.extend(reached.filter_map(|other| overlap(one, other)));
    }
    faults
}

fn overlap(one: &Draft, other: &Draft) -> Option<Fault> {
    let position = |draft: &Draft| {
        let (layer, mark) = draft.range_by.as_ref()?;
        Some((*layer, mark.span.start))
    };
    let (first, second) = if position(one) < position(other) {
        (one, other)
    } else {
        (other, one)
    };
    // The ranges that styxy has by itself are disjoint, so one of two that are not was said by somebody.
    let (layer, mark) = second.range_by.as_ref()?;
    let said = match (&first.range_by, first.definition.source) {
        (None, _) => "built in".to_owned(),
        (Some((_, mark)), TypeSource::AutoAllocated) => format!(
            "made by auto-allocation, {mark}; `styxy config auto-allocation undo {}` gives it back",
            first.definition.name
        ),
        (Some((_, mark)), _) => mark.to_string(),
    };
    let shown = |draft: &Draft| {
        let Definition { name, range, .. } = &draft.definition;
        format!(
            "range {}-{} of service type `{name}`",
            range.start(),
            range.end()
        )
    };
    Some(Fault {
        problem: mark.problem(format!(
            "{} overlaps with {} ({said})",
            shown(second),
            shown(first)
        )),
        culprit: (*layer, Part::Type(second.definition.name.clone())),
    })
}

fn merge_auto_allocation(settings: &mut AutoAllocation, layers: &[Layer]) -> Option<Fault> {
    let mut bound_by = None;
    for (layer, said) in layers.iter().enumerate() {
        let AutoAllocationEntry {
            enabled,
            default_chunk_size,
            placement,
            min_port,
            max_port,
            preserve_gaps,
            gap_size,
        } = &said.auto_allocation;
        let value = |said: &Option<Said<Port>>| said.as_ref().map(|said| said.value);
        set(
            &mut settings.enabled,
            enabled.as_ref().map(|said| said.value),
        );
        set(&mut settings.default_chunk_size, *default_chunk_size);
        set(&mut settings.placement, *placement);
        set(&mut settings.min_port, value(min_port));
        set(&mut settings.max_port, value(max_port));
        set(&mut settings.preserve_gaps, *preserve_gaps);
        set(&mut settings.gap_size, *gap_size);
        if let Some(said) = max_port.as_ref().or(min_port.as_ref()) {
            bound_by = Some((layer, said.mark.clone()));
        }
    }
    let (min, max) = (settings.min_port, settings.max_port);
    let (layer, mark) = bound_by.filter(|_| min >= max)?;
    Some(Fault {
        problem: mark.problem(format!(
            "`auto_allocation.min_port` {min} is not below `auto_allocation.max_port` {max}"
        )),
        culprit: (layer, Part::AutoAllocationBounds),
    })
}

/// The rules of a later file are tried first, in its order; a pattern that was there keeps what is not said anew.
fn merge_rules(rules: &mut Vec<AutoAllocationRule>, said: &[RuleEntry]) {
    for (position, entry) in said.iter().enumerate() {
        let known = rules.iter().position(|rule| rule.pattern == entry.pattern);
        let mut rule = match known {
            Some(at) => rules.remove(at),
            None => AutoAllocationRule {
                pattern: entry.pattern.clone(),
                chunk_size: None,
                placement: None,
                preferred_range_start: None,
            },
        };
        rule.chunk_size = entry.chunk_size.or(rule.chunk_size);
        rule.placement = entry.placement.or(rule.placement);
        rule.preferred_range_start = entry.preferred_range_start.or(rule.preferred_range_start);
        rules.insert(position, rule);
    }
}

fn merge_health(settings: &mut HealthMonitoring, said: &HealthEntry) {
    set(&mut settings.enabled, said.enabled);
    set(&mut settings.check_interval_ms, said.check_interval_ms);
    set(&mut settings.max_failures, said.max_failures);
    set(
        &mut settings.cleanup_stale_allocations,
        said.cleanup_stale_allocations,
    );
}
