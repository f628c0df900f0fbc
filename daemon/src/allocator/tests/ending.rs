//! How leases end that nobody ends, and what a start does with those from before.

use super::*;
use crate::allocator::{Lease, LeaseName, Looks, Sight};

/// What a look at these listening ports leads to, done.
fn look(machine: &mut Machine, looks: &mut Looks, listening: &[u16], now: Duration) -> Vec<Record> {
    let listening = listening.iter().copied().map(port).collect();
    let records = machine.allocator.look(looks, &listening, now, 3);
    for record in &records {
        machine.allocator.apply(record);
    }
    records
}

#[test]
fn a_lease_without_a_process_ends_when_its_listener_has_come_and_gone() {
    let mut machine = Machine::new(&[]);
    let grant = machine.ask(&request("dev"), OwnerKind::Nobody).unwrap();
    let id = grant.id.unwrap();
    let mut looks = Looks::default();
    for _ in 0..10 {
        assert_eq!(
            look(&mut machine, &mut looks, &[], NOW),
            [],
            "not started yet"
        );
    }
    let first = look(&mut machine, &mut looks, &[3000], NOW);
    assert!(matches!(&first[..], [Record::Leased(lease)] if lease.listened));
    assert_eq!(look(&mut machine, &mut looks, &[3000], NOW), [], "no news");
    look(&mut machine, &mut looks, &[], NOW);
    look(&mut machine, &mut looks, &[], NOW);
    look(&mut machine, &mut looks, &[3000], NOW);
    look(&mut machine, &mut looks, &[], NOW);
    look(&mut machine, &mut looks, &[], NOW);
    looks.forgive(id);
    look(&mut machine, &mut looks, &[], NOW);
    look(&mut machine, &mut looks, &[], NOW);
    assert_eq!(machine.allocator.len(), 1, "never three looks in a row");
    assert_eq!(
        look(&mut machine, &mut looks, &[], NOW),
        [Record::Ended(id)]
    );
    assert!(!machine.allocator.has_unowned());
}

#[test]
fn what_is_listened_on_has_been_seen_and_lives_on_from_then() {
    let mut machine = Machine::new(&[]);
    let short = AllocateRequest {
        ttl_seconds: Some(100),
        ..request("dev")
    };
    machine.ask(&short, OwnerKind::Nobody).unwrap();
    assert_eq!(
        machine.allocator.next_deadline(),
        Some(NOW + Duration::from_secs(100))
    );
    let mut looks = Looks::default();
    let later = NOW + Duration::from_mins(1);
    look(&mut machine, &mut looks, &[3000], later);
    assert_eq!(
        machine.allocator.next_deadline(),
        Some(later + Duration::from_secs(100))
    );
    let allocations = machine.allocator.allocations(&BTreeSet::new(), later);
    assert_eq!(allocations[0].expires_in, Some(100));
    assert_eq!(allocations[0].user_agent.as_deref(), Some("curl"));
}

#[test]
fn cleaning_up_ends_what_nobody_uses_and_by_force_what_nothing_listens_on() {
    let mut machine = Machine::new(&[]);
    let ids: Vec<LeaseId> = [
        owner(1),
        owner(2),
        owner(3),
        OwnerKind::Nobody,
        OwnerKind::Nobody,
    ]
    .into_iter()
    .map(|owner| machine.ask(&request("dev"), owner).unwrap().id.unwrap())
    .collect();
    let detached = machine.allocator.owner_ended(ids[2]).unwrap();
    machine.allocator.apply(&detached);
    look(&mut machine, &mut Looks::default(), &[3004], NOW);
    let cleaned = |force, listening: u16| {
        let sight = Sight {
            now: NOW,
            is_listening: &|it| it == port(listening),
            is_alive: &|owner| owner.process.pid != 2,
        };
        machine.allocator.cleanup(force, &sight)
    };
    assert_eq!(cleaned(false, 1), [ids[1], ids[2], ids[4]]);
    assert_eq!(cleaned(false, 3001), [ids[2], ids[4]]);
    assert_eq!(cleaned(true, 3000), ids[1..]);
}

#[test]
fn a_single_type_with_two_leases_keeps_the_newest_and_those_in_use() {
    let mut machine = Machine::new(&[]);
    let id = machine
        .ask(&request("ai"), OwnerKind::Nobody)
        .unwrap()
        .id
        .unwrap();
    let lease = machine.allocator.lease(id).unwrap().clone();
    let mut add = |number: u16, allocated_at: u64| {
        let lease = Lease {
            id: LeaseId::from_random(u128::from(number) << 80),
            port: port(number),
            allocated_at,
            ..lease.clone()
        };
        let record = machine.allocator.adopt(lease).unwrap();
        machine.allocator.apply(&record);
    };
    add(11_440, 9);
    add(11_450, 7);
    let doubles = machine.allocator.doubles(&|it| it == port(11_450));
    assert_eq!((doubles.unused, doubles.used), (vec![id], 1));
    let existing = machine.ask(&request("ai"), owner(9)).unwrap();
    assert_eq!(existing.port, port(11_440), "the newest");
}

#[test]
fn what_is_adopted_takes_no_port_from_a_lease() {
    let mut machine = Machine::new(&[]);
    let id = machine.give(&request("dev")).id.unwrap();
    let lease = machine.allocator.lease(id).unwrap().clone();
    assert_eq!(machine.allocator.adopt(lease.clone()), None);
    let other = Lease {
        id: LeaseId::from_random(77 << 80),
        reports: [3000, 3005, 3006]
            .map(|number| ListenerReport {
                requested: port(number),
                port: port(number),
            })
            .to_vec(),
        ..lease.clone()
    };
    let Some(Record::Leased(adopted)) = machine.allocator.adopt(other.clone()) else {
        panic!("it has ports of its own");
    };
    assert_eq!(
        adopted.ports().collect::<Vec<_>>(),
        [port(3005), port(3006)]
    );
    let nothing_left = Lease {
        reports: Vec::new(),
        ..other
    };
    assert_eq!(machine.allocator.adopt(nothing_left), None);
    assert_eq!(machine.allocator.type_of(port(6010)).as_str(), "storybook");
    assert_eq!(machine.allocator.type_of(port(7)).as_str(), "dev");
}

#[test]
fn indexes_that_do_not_agree_with_the_leases_are_made_anew() {
    let mut machine = Machine::new(&[]);
    let kept = machine.give(&request("dev")).id.unwrap();
    machine.ask(&request("dev"), OwnerKind::Nobody).unwrap();
    assert_eq!(machine.allocator.rebuild_indexes(), 0);
    machine.allocator.indexes.by_port.remove(&port(3000));
    machine.allocator.indexes.by_port.insert(port(7), kept);
    machine.allocator.indexes.deadlines.clear();
    assert_eq!(machine.allocator.rebuild_indexes(), 3);
    assert_eq!(machine.allocator.rebuild_indexes(), 0);
    let found = machine.allocator.find(LeaseName::Port(port(3000)));
    assert_eq!(found.map(|lease| lease.id), Some(kept));
}
