//! Which ports the next services of a type would get: the allocator itself, asked without consequences.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use styxy_protocol::api::AllocateRequest;
use styxy_protocol::{Instances, Port, ServiceType};

use super::{Allocator, Applicant, LeaseId, OwnerKind};

/// The type that counts where one is not known.
const DEFAULT_TYPE: &str = "dev";

/// Ports that would be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suggestions {
    /// To services of this type.
    pub(crate) service_type: ServiceType,
    /// In this order.
    pub(crate) ports: Vec<Port>,
}

impl Allocator {
    /// The ports that `count` services of this type would get, one after the other; fewer where there are no more.
    /// A type that is not known counts as `dev`. A type that may have only one service has one suggestion: the port
    /// of that service if it is there, which is what a second one would be answered with.
    pub(crate) fn suggest(
        &self,
        wanted: Option<ServiceType>,
        count: usize,
        is_free: &dyn Fn(Port) -> bool,
    ) -> Suggestions {
        let wanted = wanted.filter(|name| self.types().get(name).is_some());
        let service_type = wanted.unwrap_or_else(|| {
            let dev = DEFAULT_TYPE.parse();
            dev.unwrap_or_else(|_| unreachable!("`{DEFAULT_TYPE}` is letters only"))
        });
        let definition = self.types().get(&service_type);
        let is_single = definition.is_some_and(|it| it.instances == Instances::Single);
        let count = if is_single { count.min(1) } else { count };
        // Every round begins with the same candidates; the kernel is asked about each once.
        let known: RefCell<HashMap<Port, bool>> = RefCell::default();
        let mut ports: Vec<Port> = Vec::new();
        while ports.len() < count {
            let is_left = |port: Port| {
                !ports.contains(&port)
                    && *known
                        .borrow_mut()
                        .entry(port)
                        .or_insert_with(|| is_free(port))
            };
            let Ok(grant) = self.allocate(&dry_run(&service_type), &nobody(&is_left)) else {
                break;
            };
            ports.push(grant.port);
        }
        Suggestions {
            service_type,
            ports,
        }
    }
}

fn dry_run(service_type: &ServiceType) -> AllocateRequest {
    AllocateRequest {
        service_type: service_type.clone(),
        service_name: None,
        instance_id: None,
        project_path: None,
        package_dir: None,
        preferred_port: None,
        default_port: None,
        strict: false,
        spare_ports: 0,
        pid: None,
        command: None,
        ttl_seconds: None,
        dry_run: true,
    }
}

fn nobody(is_free: &dyn Fn(Port) -> bool) -> Applicant<'_> {
    Applicant {
        id: LeaseId::from_random(0),
        owner: OwnerKind::Nobody,
        boot: "",
        now: Duration::ZERO,
        wall: 0,
        is_free,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::Record;
    use crate::service_types::ServiceTypes;

    fn allocator() -> Allocator {
        Allocator::new(ServiceTypes::builtin(), 32768..=60999, 0)
    }

    fn suggested(
        allocator: &Allocator,
        service_type: &str,
        count: usize,
        is_free: impl Fn(u16) -> bool,
    ) -> (String, Vec<u16>) {
        let wanted = service_type.parse().ok();
        let found = allocator.suggest(wanted, count, &|port| is_free(port.get()));
        let ports = found.ports.into_iter().map(Port::get).collect();
        (found.service_type.to_string(), ports)
    }

    /// What allocating really gives, one after the other.
    fn given(allocator: &mut Allocator, name: &str, count: usize) -> Vec<u16> {
        let mut ports = Vec::new();
        while ports.len() < count {
            let request = AllocateRequest {
                dry_run: false,
                ..dry_run(&name.parse().unwrap())
            };
            let applicant = Applicant {
                id: LeaseId::from_random(allocator.len() as u128),
                ..nobody(&|port| port.get() % 3 != 0)
            };
            let grant = allocator.allocate(&request, &applicant).unwrap();
            for record in &grant.records {
                allocator.apply(record);
            }
            ports.push(grant.port.get());
        }
        ports
    }

    #[test]
    fn suggestions_are_what_is_given_then() {
        let mut allocator = allocator();
        given(&mut allocator, "dev", 2);
        for name in ["dev", "api", "storybook"] {
            let before = allocator.snapshot();
            let (_, suggested) = suggested(&allocator, name, 8, |port| port % 3 != 0);
            assert_eq!(allocator.snapshot(), before);
            assert_eq!(suggested.len(), 8);
            assert_eq!(given(&mut allocator, name, 8), suggested, "{name}");
        }
    }

    #[test]
    fn a_used_up_range_has_fewer_suggestions_than_asked_for() {
        let (_, ports) = suggested(&allocator(), "dev", 50, |port| port >= 3097);
        assert_eq!(ports, [3097, 3098, 3099]);
        assert!(suggested(&allocator(), "dev", 5, |_| false).1.is_empty());
        assert!(suggested(&allocator(), "dev", 0, |_| true).1.is_empty());
    }

    #[test]
    fn a_type_that_is_not_known_counts_as_dev() {
        for name in ["nonsense", "bad type!", ""] {
            let (service_type, ports) = suggested(&allocator(), name, 2, |_| true);
            assert_eq!((service_type.as_str(), ports), ("dev", vec![3000, 3001]));
        }
    }

    #[test]
    fn a_single_instance_type_has_one_port() {
        let mut allocator = allocator();
        assert_eq!(suggested(&allocator, "ai", 5, |_| true).1, [11430]);
        let request = AllocateRequest {
            dry_run: false,
            ..dry_run(&"ai".parse().unwrap())
        };
        let applicant = nobody(&|port| port.get() == 11455);
        let grant = allocator.allocate(&request, &applicant).unwrap();
        assert!(matches!(grant.records.last(), Some(Record::Leased(_))));
        for record in &grant.records {
            allocator.apply(record);
        }
        assert_eq!(suggested(&allocator, "ai", 5, |_| false).1, [11455]);
    }

    #[test]
    fn the_kernel_is_asked_about_each_port_once() {
        let asked = RefCell::new(Vec::new());
        suggested(&allocator(), "dev", 50, |port| {
            asked.borrow_mut().push(port);
            port % 2 == 0
        });
        let mut asked = asked.into_inner();
        let total = asked.len();
        asked.sort_unstable();
        asked.dedup();
        assert_eq!(asked.len(), total);
    }
}
