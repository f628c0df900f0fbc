//! Tables for single decisions. What holds over any sequence of events is in `properties`.

mod ending;

use std::collections::BTreeSet;
use std::time::Duration;

use styxy_protocol::Port;
use styxy_protocol::api::{AllocateRequest, Holder, LeaseState, ListenerReport};

use super::grant::{Applicant, Exhausted, Grant, OwnerKind, Refusal};
use super::lease::{Client, Hold, LeaseId, Owner, Record, TTL, UNWATCHED_TTL};
use super::{Allocator, Release, ReportRefusal};
use crate::kernel::ProcessIdentity;
use crate::service_types::ServiceTypes;

const NOW: Duration = Duration::from_secs(1000);
const MAX_LEASES: usize = 64;

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn owner(pid: u32) -> OwnerKind {
    OwnerKind::Watched(Owner {
        process: ProcessIdentity { pid, start_time: 1 },
        session: 1,
        group: Some(1),
    })
}

fn request(service_type: &str) -> AllocateRequest {
    AllocateRequest {
        service_type: service_type.parse().unwrap(),
        service_name: Some("web".to_owned()),
        instance_id: None,
        project_path: Some("/p".to_owned()),
        package_dir: None,
        preferred_port: None,
        default_port: None,
        strict: false,
        spare_ports: 0,
        pid: None,
        command: None,
        ttl_seconds: None,
        dry_run: false,
    }
}

/// An allocator and the ports that foreign processes hold on its machine.
struct Machine {
    allocator: Allocator,
    foreign: BTreeSet<u16>,
    ids: u128,
}

impl Machine {
    fn new(foreign: &[u16]) -> Self {
        Self {
            allocator: Allocator::new(ServiceTypes::builtin(), 32768..=60999, 0),
            foreign: foreign.iter().copied().collect(),
            ids: 0,
        }
    }

    fn ask(&mut self, request: &AllocateRequest, owner: OwnerKind) -> Result<Grant, Refusal> {
        self.ids += 1;
        let is_free = |port: Port| !self.foreign.contains(&port.get());
        let applicant = Applicant {
            id: LeaseId::from_random(self.ids << 80),
            owner,
            client: match owner {
                OwnerKind::Watched(owner) => Client::Session(owner.process.pid),
                OwnerKind::Unwatched(_) | OwnerKind::Nobody => Client::Unknown,
            },
            user_agent: Some("curl".to_owned()),
            max_leases: MAX_LEASES,
            boot: "boot",
            now: NOW,
            wall: 5,
            is_free: &is_free,
        };
        let grant = self.allocator.allocate(request, &applicant)?;
        for record in &grant.records {
            self.allocator.apply(record);
        }
        Ok(grant)
    }

    fn give(&mut self, request: &AllocateRequest) -> Grant {
        self.ask(request, owner(10)).unwrap()
    }

    fn end(&mut self, grant: &Grant) {
        self.allocator.apply(&Record::Ended(grant.id.unwrap()));
    }
}

fn nothing_listens(_: Port) -> bool {
    false
}

fn everything_listens(_: Port) -> bool {
    true
}

#[test]
fn a_taken_default_names_its_foreign_holder_as_a_process() {
    let mut machine = Machine::new(&[5173]);
    let wants = AllocateRequest {
        default_port: Some(port(5173)),
        ..request("dev")
    };
    let grant = machine.give(&wants);
    assert_eq!(grant.port, port(5174));
    let conflict = grant.conflict.unwrap();
    assert_eq!(conflict.port, port(5173));
    assert!(matches!(conflict.holder, Holder::Process { .. }));
}

#[test]
fn a_live_lease_of_the_same_service_is_a_conflict_like_any_other() {
    let mut machine = Machine::new(&[]);
    let wants = AllocateRequest {
        default_port: Some(port(6006)),
        ..request("storybook")
    };
    assert_eq!(machine.give(&wants).port, port(6006));
    let second = machine.give(&wants);
    assert_eq!(second.port, port(6007));
    assert_eq!(
        second.conflict.unwrap().holder,
        Holder::Lease {
            project_path: Some("/p".to_owned()),
            service_name: Some("web".to_owned()),
            pid: Some(10),
        }
    );
}

#[test]
fn the_port_of_last_time_comes_before_the_default_and_is_no_conflict() {
    let mut machine = Machine::new(&[8000]);
    let wants = AllocateRequest {
        default_port: Some(port(8000)),
        ..request("api")
    };
    let first = machine.give(&wants);
    assert_eq!(first.port, port(8001));
    machine.end(&first);
    machine.foreign.clear();
    let again = machine.give(&wants);
    assert_eq!((again.port, again.conflict), (port(8001), None));
    let other = AllocateRequest {
        project_path: Some("/other".to_owned()),
        ..wants
    };
    assert_eq!(machine.give(&other).port, port(8000));
}

#[test]
fn an_asked_for_port_comes_before_the_port_of_last_time() {
    let mut machine = Machine::new(&[]);
    let first = machine.give(&request("dev"));
    machine.end(&first);
    let asks = AllocateRequest {
        preferred_port: Some(port(4242)),
        ..request("dev")
    };
    let grant = machine.give(&asks);
    assert_eq!((grant.port, grant.conflict), (port(4242), None));
}

#[test]
fn an_asked_for_port_that_is_taken_is_a_conflict_even_if_the_last_one_is_given() {
    let mut machine = Machine::new(&[4242]);
    let first = machine.give(&request("dev"));
    machine.end(&first);
    let asks = AllocateRequest {
        preferred_port: Some(port(4242)),
        ..request("dev")
    };
    let grant = machine.give(&asks);
    assert_eq!(grant.port, first.port);
    assert_eq!(grant.conflict.unwrap().port, port(4242));
}

#[test]
fn a_second_copy_does_not_take_the_first_ones_place() {
    let mut machine = Machine::new(&[]);
    let first = machine.give(&request("dev"));
    let second = machine.give(&request("dev"));
    assert_eq!((first.port, second.port), (port(3000), port(3001)));
    machine.end(&second);
    machine.end(&first);
    assert_eq!(machine.give(&request("dev")).port, port(3000));
}

#[test]
fn a_reserved_port_is_given_to_those_who_ask_for_it_and_to_nobody_else() {
    for number in [6000, 40000] {
        let asks = AllocateRequest {
            preferred_port: Some(port(number)),
            ..request("dev")
        };
        assert_eq!(Machine::new(&[]).give(&asks).port, port(number));
        let tool = AllocateRequest {
            default_port: Some(port(number)),
            ..request("dev")
        };
        let grant = Machine::new(&[]).give(&tool);
        assert_ne!(grant.port, port(number));
        let holder = grant.conflict.unwrap().holder;
        assert!(matches!(holder, Holder::Reserved { .. }), "{number}");
    }
}

#[test]
fn a_privileged_port_is_a_conflict_with_a_reason() {
    let mut machine = Machine::new(&[]);
    let asks = AllocateRequest {
        preferred_port: Some(port(80)),
        ..request("dev")
    };
    let grant = machine.give(&asks);
    assert_eq!(grant.port, port(3000));
    assert!(matches!(
        grant.conflict.unwrap().holder,
        Holder::Reserved { .. }
    ));
}

#[test]
fn strict_takes_the_asked_for_port_or_nothing() {
    let mut machine = Machine::new(&[3001]);
    let strict = |number: u16| AllocateRequest {
        preferred_port: Port::new(number),
        strict: true,
        ..request("dev")
    };
    assert_eq!(machine.give(&strict(3000)).port, port(3000));
    for (number, by_lease) in [(3000, true), (3001, false)] {
        let refusal = machine.ask(&strict(number), owner(10)).unwrap_err();
        let Refusal::Taken(conflict) = refusal else {
            panic!("{refusal:?}");
        };
        assert_eq!(conflict.port, port(number));
        assert_eq!(matches!(conflict.holder, Holder::Lease { .. }), by_lease);
    }
    assert_eq!(
        machine.ask(&strict(0), owner(10)),
        Err(Refusal::StrictWithoutPort)
    );
}

#[test]
fn strict_may_have_every_port_but_a_privileged_one() {
    for (number, given) in [(40000, true), (6000, true), (80, false)] {
        let asks = AllocateRequest {
            preferred_port: Some(port(number)),
            strict: true,
            ..request("dev")
        };
        let answer = Machine::new(&[]).ask(&asks, owner(10));
        assert_eq!(answer.is_ok(), given, "{number}: {answer:?}");
    }
}

#[test]
fn a_range_runs_out_and_says_who_has_it() {
    let mut machine = Machine::new(&[6029]);
    for expected in 6006..=6028 {
        let owner = owner(10 + u32::from(expected % 2));
        let grant = machine.ask(&request("storybook"), owner).unwrap();
        assert_eq!(grant.port, port(expected));
    }
    let refusal = machine.ask(&request("storybook"), owner(10)).unwrap_err();
    let Refusal::Exhausted(exhausted) = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!((exhausted.range, exhausted.share), (6006..=6029, None));
    assert_eq!(exhausted.holders.len(), 23);
    assert_eq!(exhausted.holders[0].0, port(6006));
}

#[test]
fn one_client_gets_nine_tenths_of_a_range_and_the_next_one_is_still_served() {
    let mut machine = Machine::new(&[]);
    for _ in 0..21 {
        machine.give(&request("storybook"));
    }
    let refusal = machine.ask(&request("storybook"), owner(10)).unwrap_err();
    let Refusal::Exhausted(Exhausted { share, holders, .. }) = refusal else {
        panic!("{refusal:?}");
    };
    assert_eq!((share, holders.len()), (Some(21), 21));
    let dry = AllocateRequest {
        dry_run: true,
        ..request("storybook")
    };
    assert!(
        machine.ask(&dry, owner(10)).is_err(),
        "a dry run says the same"
    );
    assert!(machine.ask(&request("storybook"), owner(11)).is_ok());
    assert!(
        machine.ask(&request("dev"), owner(10)).is_ok(),
        "another range"
    );
}

#[test]
fn a_share_limits_what_is_chosen_not_what_is_asked_for() {
    let mut machine = Machine::new(&[]);
    for number in 6006..=6026 {
        let asks = AllocateRequest {
            preferred_port: Port::new(number),
            ..request("storybook")
        };
        assert_eq!(machine.give(&asks).port, port(number));
    }
    assert!(
        machine.ask(&request("storybook"), owner(10)).is_err(),
        "they count"
    );
    for number in [6027, 6028, 6029] {
        let asks = AllocateRequest {
            preferred_port: Port::new(number),
            ..request("storybook")
        };
        assert_eq!(machine.give(&asks).port, port(number));
    }
    let elsewhere = AllocateRequest {
        default_port: Port::new(7000),
        ..request("storybook")
    };
    assert_eq!(
        machine.give(&elsewhere).port,
        port(7000),
        "not of the range"
    );
}

#[test]
fn an_unknown_type_is_refused() {
    let unknown = request("teapot");
    assert_eq!(
        Machine::new(&[]).ask(&unknown, owner(1)),
        Err(Refusal::UnknownType(unknown.service_type))
    );
}

#[test]
fn a_process_has_at_most_its_quota_until_one_of_its_leases_ends() {
    let mut machine = Machine::new(&[]);
    let first = machine.give(&request("dev"));
    for _ in 1..MAX_LEASES {
        machine.give(&request("dev"));
    }
    assert_eq!(
        machine.ask(&request("dev"), owner(10)),
        Err(Refusal::Quota {
            pid: 10,
            max_leases: MAX_LEASES
        })
    );
    assert!(machine.ask(&request("dev"), owner(11)).is_ok());
    machine.end(&first);
    assert!(machine.ask(&request("dev"), owner(10)).is_ok());
}

#[test]
fn a_single_instance_type_answers_with_the_lease_it_has() {
    let mut machine = Machine::new(&[]);
    let first = machine.give(&request("ai"));
    let second = machine.ask(&request("ai"), owner(11)).unwrap();
    assert_eq!((second.port, second.id), (port(11430), first.id));
    let existing = second.existing.unwrap();
    assert_eq!((existing.pid, existing.allocated_at), (Some(10), 5000));
    assert_eq!(second.records, []);
    machine.end(&first);
    assert_eq!(machine.give(&request("ai")).existing, None);
}

#[test]
fn a_dry_run_answers_the_same_and_changes_nothing() {
    let mut machine = Machine::new(&[3000]);
    let wants = AllocateRequest {
        default_port: Some(port(3000)),
        spare_ports: 2,
        ..request("dev")
    };
    let dry = AllocateRequest {
        dry_run: true,
        ..wants.clone()
    };
    let tried = machine.give(&dry);
    assert_eq!((tried.id, tried.records.len()), (None, 0));
    assert_eq!(machine.allocator.len(), 0);
    let real = machine.give(&wants);
    assert_eq!(
        (tried.port, tried.spares, tried.conflict),
        (real.port, real.spares, real.conflict)
    );
}

#[test]
fn spares_are_free_distinct_and_not_those_of_the_lease_before() {
    let mut machine = Machine::new(&[20_001]);
    let wants = AllocateRequest {
        spare_ports: 2,
        ..request("dev")
    };
    let first = machine.give(&wants);
    assert_eq!(first.spares, [port(20_000), port(20_002)]);
    machine.end(&first);
    assert_eq!(machine.give(&wants).spares, [port(20_003), port(20_004)]);
}

#[test]
fn a_released_lease_ends_at_once_unless_something_listens() {
    let mut machine = Machine::new(&[]);
    let grant = machine.give(&request("dev"));
    let id = grant.id.unwrap();
    let ends = machine.allocator.release(id, &nothing_listens);
    assert_eq!(ends, Some(Release::Ends(Record::Ended(id))));
    let Some(Release::Detaches(record)) = machine.allocator.release(id, &everything_listens) else {
        panic!("it is detached");
    };
    assert_eq!(machine.allocator.tree_ended(id), None, "its owner lives");
    machine.allocator.apply(&record);
    assert_eq!(machine.allocator.owner_ended(id), None, "it was released");
    assert_eq!(machine.allocator.renew(id, NOW), None);
    let allocations = machine
        .allocator
        .allocations(&BTreeSet::from([port(3000)]), NOW);
    assert_eq!(allocations[0].state, LeaseState::Detached);
    assert_eq!(
        machine.give(&request("dev")).port,
        port(3001),
        "it still has its port"
    );
    let ended = machine.allocator.tree_ended(id).unwrap();
    machine.allocator.apply(&ended);
    assert_eq!(machine.give(&request("dev")).port, port(3000));
}

#[test]
fn the_owner_of_a_killed_run_is_remembered() {
    let mut machine = Machine::new(&[]);
    let id = machine.give(&request("dev")).id.unwrap();
    let record = machine.allocator.owner_ended(id).unwrap();
    machine.allocator.apply(&record);
    let hold = machine.allocator.lease(id).unwrap().hold;
    assert!(matches!(
        hold,
        Hold::Detached {
            owner: Some(owner),
            was_killed: true
        } if owner.process.pid == 10
    ));
}

#[test]
fn leases_without_a_process_end_in_time_unless_renewed_or_listened_on() {
    let mut machine = Machine::new(&[]);
    let unwatched = machine
        .ask(&request("dev"), OwnerKind::Unwatched(7))
        .unwrap();
    let nobody = machine.ask(&request("dev"), OwnerKind::Nobody).unwrap();
    let allocator = &mut machine.allocator;
    assert_eq!(allocator.next_deadline(), Some(NOW + UNWATCHED_TTL));
    let later = NOW + UNWATCHED_TTL;
    assert_eq!(
        allocator.expire(
            later.saturating_sub(Duration::from_nanos(1)),
            &nothing_listens
        ),
        []
    );
    let ended = Record::Ended(unwatched.id.unwrap());
    assert_eq!(allocator.expire(later, &nothing_listens), [ended]);

    let (ttl, record) = allocator.renew(unwatched.id.unwrap(), later).unwrap();
    assert_eq!(ttl, UNWATCHED_TTL);
    allocator.apply(&record.unwrap());
    assert_eq!(allocator.next_deadline(), Some(later + UNWATCHED_TTL));

    for record in allocator.expire(NOW + TTL, &everything_listens) {
        allocator.apply(&record);
    }
    assert_eq!(allocator.len(), 2, "something listens");
    for record in allocator.expire(NOW + TTL + TTL, &nothing_listens) {
        allocator.apply(&record);
    }
    assert_eq!(allocator.len(), 0);
    assert_eq!(allocator.next_deadline(), None);
    assert_eq!(allocator.renew(nobody.id.unwrap(), NOW), None);
}

#[test]
fn a_reported_port_belongs_to_the_lease() {
    let mut machine = Machine::new(&[]);
    let id = machine.give(&request("dev")).id.unwrap();
    let hard_coded = ListenerReport {
        requested: port(8000),
        port: port(8000),
    };
    let record = machine.allocator.report(id, hard_coded).unwrap().unwrap();
    machine.allocator.apply(&record.unwrap());
    assert_eq!(machine.allocator.report(id, hard_coded), Some(Ok(None)));
    let other = machine.give(&request("api"));
    assert_eq!(other.port, port(8001));
    let refused = machine.allocator.report(other.id.unwrap(), hard_coded);
    assert_eq!(refused, Some(Err(ReportRefusal::Taken(id))));
    let allocations = machine
        .allocator
        .allocations(&BTreeSet::from([port(8000)]), NOW);
    assert_eq!(allocations[0].listeners, [hard_coded]);
    assert_eq!(allocations[0].state, LeaseState::Listening);
    assert_eq!(allocations[1].state, LeaseState::Starting);
}

#[test]
fn after_a_restart_only_leases_of_this_boot_with_a_living_owner_are_as_before() {
    let mut machine = Machine::new(&[]);
    let lives = machine.ask(&request("dev"), owner(1)).unwrap().id.unwrap();
    let died = machine.ask(&request("dev"), owner(2)).unwrap().id.unwrap();
    let allocator = &machine.allocator;
    let records = allocator.recover("boot", &|owner| owner.process.pid == 1);
    assert_eq!(records, [allocator.owner_ended(died).unwrap()]);
    let records = allocator.recover("next boot", &|_| true);
    assert_eq!(records, [Record::Ended(lives), Record::Ended(died)]);
}
