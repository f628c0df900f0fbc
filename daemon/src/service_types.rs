//! The service types in force: those that styxy knows by itself, changed and extended by the configuration.
//!
//! Pure. Invariant: every type has a range of at least one port, and its name is its key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use styxy_protocol::api::TypeSource;
use styxy_protocol::{BUILTIN_SERVICE_TYPES, Instances, Port, ServiceType, ServiceTypeSpec};

/// One kind of service and the ports that belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: ServiceType,
    /// What it is, for people.
    pub description: String,
    /// The ports that are tried before the rest of the range.
    pub preferred: Vec<Port>,
    /// Its ports.
    pub range: RangeInclusive<u16>,
    /// Whether a second service of the type gets a port of its own.
    pub instances: Instances,
    /// Tools that are of this type, for people.
    pub examples: Vec<String>,
    /// Where it comes from.
    pub source: TypeSource,
    /// When auto-allocation made its range (RFC 3339, UTC).
    pub auto_allocated_at: Option<String>,
}

impl Definition {
    /// The ports of the type, those that are tried first in front; these come twice.
    pub fn candidates(&self) -> impl Iterator<Item = Port> + Clone {
        let range = self.range.clone().filter_map(Port::new);
        self.preferred.iter().copied().chain(range)
    }

    /// First and last port of its range.
    pub(crate) fn ends(&self) -> [Port; 2] {
        ends(&self.range)
    }
}

impl From<&ServiceTypeSpec> for Definition {
    fn from(spec: &ServiceTypeSpec) -> Self {
        Self {
            name: spec
                .name
                .parse()
                .expect("a test holds every name of the table against the rule for names"),
            description: spec.description.to_owned(),
            preferred: spec.preferred_ports().filter_map(Port::new).collect(),
            range: spec.range(),
            instances: spec.instances,
            examples: spec.examples.iter().map(|&name| name.to_owned()).collect(),
            source: TypeSource::Builtin,
            auto_allocated_at: None,
        }
    }
}

/// First and last port of a range.
pub(crate) fn ends(range: &RangeInclusive<u16>) -> [Port; 2] {
    [range.start(), range.end()].map(|&port| Port::new(port).expect("no range has port 0"))
}

/// The ports of a range that are tried first where nobody says which: its first four, or as many as it has.
pub(crate) fn first_ports(range: &RangeInclusive<u16>) -> Vec<Port> {
    range.clone().take(4).filter_map(Port::new).collect()
}

/// Every service type, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTypes {
    by_name: BTreeMap<ServiceType, Definition>,
}

impl ServiceTypes {
    /// The types that styxy knows by itself.
    pub fn builtin() -> Self {
        let definitions = BUILTIN_SERVICE_TYPES.iter().map(Definition::from);
        Self {
            by_name: definitions.map(|it| (it.name.clone(), it)).collect(),
        }
    }

    /// The type with this name.
    pub fn get(&self, name: &ServiceType) -> Option<&Definition> {
        self.by_name.get(name)
    }

    /// Adds a type, in place of one of the same name.
    pub fn insert(&mut self, definition: Definition) {
        self.by_name.insert(definition.name.clone(), definition);
    }

    /// Takes a type out.
    pub fn remove(&mut self, name: &ServiceType) -> Option<Definition> {
        self.by_name.remove(name)
    }

    /// Every type, in ascending order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.by_name.values()
    }

    /// Whether there is a type of this name, or one that has a port of this range.
    pub(crate) fn meets(&self, name: &ServiceType, range: &RangeInclusive<u16>) -> bool {
        self.iter().any(|it| {
            it.name == *name || it.range.start() <= range.end() && range.start() <= it.range.end()
        })
    }

    /// Whether this port lies in the range of a type.
    pub fn has_port(&self, port: u16) -> bool {
        self.iter().any(|it| it.range.contains(&port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_types_are_there_and_can_be_changed() {
        let mut types = ServiceTypes::builtin();
        assert_eq!(types.iter().count(), 17);
        let dev: ServiceType = "dev".parse().unwrap();
        let definition = types.get(&dev).unwrap().clone();
        let candidates: Vec<_> = definition.candidates().map(Port::get).collect();
        assert_eq!(candidates[..5], [3000, 3001, 3002, 3003, 3000]);
        assert!(types.has_port(3099) && !types.has_port(5173));
        types.insert(Definition {
            range: 5000..=5010,
            ..definition
        });
        assert_eq!(types.iter().count(), 17);
        assert_eq!(types.remove(&dev).unwrap().range, 5000..=5010);
        assert_eq!(types.get(&dev), None);
    }
}
