//! The daemon is killed two hundred times while clients ask it for ports: what it has acknowledged stays true.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use styxy_tests::{Api, Deadline, Running, Sandbox, eventually};

use crate::sandbox;
use crate::server::leases;

const KILLS: usize = 200;
const CLIENTS: u64 = 4;
/// Clients release rather than allocate when there are so many.
const LEASES: usize = 80;
/// At most so many acknowledged operations lie between a start of the daemon and its end.
const OPERATIONS: u64 = 24;
/// After so many kills a process that has leases is killed too.
const OWNER_DIES_EVERY: usize = 20;

/// What a client knows about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It was acknowledged.
    Live,
    /// It was acknowledged, and somebody is renewing it.
    Renewing,
    /// Its release is under way, or got no answer.
    Releasing,
    /// Its release was acknowledged.
    Released,
    /// Its owner was killed.
    Doomed,
}

#[derive(Debug)]
struct Lease {
    ports: Vec<u64>,
    owner: Option<i32>,
    known: Known,
}

/// All that was acknowledged.
#[derive(Debug, Default)]
struct Ledger {
    leases: BTreeMap<String, Lease>,
    owners: Vec<i32>,
    acknowledged: u64,
}

/// Steps of `SplitMix64`: enough to choose what to do.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        let count = u64::try_from(choices.len()).expect("few");
        choices[usize::try_from(self.below(count)).expect("few")]
    }
}

/// What clients and the killer share.
struct World {
    seed: u64,
    api: Api,
    ledger: Mutex<Ledger>,
    /// Something was acknowledged.
    changed: Condvar,
    /// Read by whoever asks the daemon, written while it is being restarted and checked.
    gate: RwLock<()>,
    is_over: AtomicBool,
}

/// Ends the others when one of them fails.
struct Over<'a>(&'a World);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
        self.0.changed.notify_all();
    }
}

impl World {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Allocates, renews and releases until it is over.
    fn be_client(&self, number: u64) {
        let _over = Over(self);
        let mut random = Random(self.seed ^ (number << 32));
        while !self.is_over() {
            let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            let live = {
                let ledger = self.ledger();
                let leases = ledger.leases.values();
                leases.filter(|lease| lease.known == Known::Live).count()
            };
            match random.below(4) {
                _ if live < LEASES / 4 => self.allocate(&mut random),
                0 => self.renew(&mut random),
                1 => self.release(&mut random),
                _ if live >= LEASES => self.release(&mut random),
                _ => self.allocate(&mut random),
            }
        }
    }

    fn allocate(&self, random: &mut Random) {
        let owners = self.ledger().owners.clone();
        // One in three hangs on no process.
        let owner = (random.below(3) > 0 && !owners.is_empty())
            .then(|| *random.one_of(&owners.iter().collect::<Vec<_>>()));
        let mut wish = json!({
            "service_type": random.one_of(&["dev", "api", "test", "docs"]),
            "service_name": format!("service-{}", random.below(30)),
            "project_path": "/somewhere",
            "spare_ports": random.below(3),
            "pid": owner,
        });
        if random.below(2) == 0 {
            // Few enough that many want the same.
            wish["default_port"] = json!(3000 + random.below(20));
        }
        let Ok((200, lease)) = self.api.send("POST", "/allocate", &wish.to_string()) else {
            return;
        };
        let ports: Vec<u64> = std::iter::once(&lease["port"])
            .chain(lease["spare_ports"].as_array().into_iter().flatten())
            .map(|port| port.as_u64().expect("a port"))
            .collect();
        let mut ledger = self.ledger();
        for (id, other) in &ledger.leases {
            let is_held = matches!(other.known, Known::Live | Known::Renewing);
            let is_twice = is_held && other.ports.iter().any(|port| ports.contains(port));
            assert!(!is_twice, "seed {}: {lease} and {id} {other:?}", self.seed);
        }
        let lease = (
            id(&lease),
            Lease {
                ports,
                owner,
                known: Known::Live,
            },
        );
        ledger.leases.extend([lease]);
        self.acknowledge(ledger);
    }

    fn renew(&self, random: &mut Random) {
        let Some(id) = self.choose(random, Known::Renewing) else {
            return;
        };
        let answer = self
            .api
            .send("PUT", &format!("/allocate/{id}/heartbeat"), "");
        self.close(&id, answer, Known::Live);
    }

    fn release(&self, random: &mut Random) {
        let Some(id) = self.choose(random, Known::Releasing) else {
            return;
        };
        let answer = self.api.send("DELETE", &format!("/allocate/{id}"), "");
        if answer.is_ok() {
            self.close(&id, answer, Known::Released);
        }
    }

    /// Takes a lease for itself.
    fn choose(&self, random: &mut Random, becomes: Known) -> Option<String> {
        let mut ledger = self.ledger();
        let live: Vec<&String> = ledger
            .leases
            .iter()
            .filter(|(_, lease)| lease.known == Known::Live)
            .map(|(id, _)| id)
            .collect();
        if live.is_empty() {
            return None;
        }
        let id = random.one_of(&live).clone();
        ledger.leases.get_mut(&id)?.known = becomes;
        Some(id)
    }

    /// Notes what became of a lease that was known to be live. Without an answer nothing is known to have changed.
    fn close(&self, id: &str, answer: std::io::Result<(u16, Value)>, known: Known) {
        let mut ledger = self.ledger();
        let lease = ledger.leases.get_mut(id).expect("it was chosen");
        if lease.known == Known::Doomed {
            return;
        }
        lease.known = known;
        if let Ok((status, answer)) = answer {
            assert_eq!(
                status, 200,
                "seed {}: lost {id} {lease:?}: {answer}",
                self.seed
            );
            self.acknowledge(ledger);
        }
    }

    fn acknowledge(&self, mut ledger: MutexGuard<'_, Ledger>) {
        ledger.acknowledged += 1;
        drop(ledger);
        self.changed.notify_all();
    }

    /// Lets the clients work until so many more operations were acknowledged.
    fn work(&self, operations: u64) {
        let ledger = self.ledger();
        let enough = ledger.acknowledged + operations;
        let waited = self
            .changed
            .wait_timeout_while(ledger, Duration::from_mins(1), |ledger| {
                ledger.acknowledged < enough && !self.is_over()
            });
        let waited = waited.unwrap_or_else(PoisonError::into_inner).1;
        assert!(!waited.timed_out(), "seed {}: nobody is served", self.seed);
    }

    /// Compares what was acknowledged with what the daemon says, while nobody asks it anything.
    fn check(&self, kills: usize) {
        let (status, list) = self.api.send("GET", "/allocations", "").expect("an answer");
        assert_eq!(status, 200, "{list}");
        let list = list["allocations"].as_array().expect("a list");
        let ports: BTreeSet<u64> = list.iter().map(port).collect();
        let when = format!("seed {}, after {kills} kills", self.seed);
        assert_eq!(ports.len(), list.len(), "{when}: a port twice in {list:?}");
        let listed: BTreeMap<String, &Value> =
            list.iter().map(|lease| (id(lease), lease)).collect();
        let mut ledger = self.ledger();
        for (id, lease) in &mut ledger.leases {
            let found = listed.get(id);
            lease.known = match (lease.known, found) {
                (Known::Live, Some(found)) => {
                    assert_eq!(port(found), lease.ports[0], "{when}: {id}");
                    Known::Live
                }
                (Known::Live, None) => panic!("{when}: lost {id} {lease:?}"),
                (Known::Released, Some(found)) => panic!("{when}: {found} is back"),
                // Not acknowledged: it may have happened or not, but that is settled now.
                (Known::Releasing, Some(_)) => Known::Live,
                (Known::Releasing | Known::Released, None) => Known::Released,
                (Known::Doomed, _) => Known::Doomed,
                (Known::Renewing, _) => panic!("{when}: somebody is at work on {id}"),
            };
        }
        for (id, lease) in listed {
            // So is what was given without the client having heard of it.
            let owner = lease["pid"]
                .as_i64()
                .and_then(|pid| i32::try_from(pid).ok());
            let is_orphan = owner.is_some_and(|owner| !ledger.owners.contains(&owner))
                || lease["state"] == "detached";
            ledger.leases.entry(id).or_insert_with(|| Lease {
                ports: vec![port(lease)],
                owner,
                known: if is_orphan {
                    Known::Doomed
                } else {
                    Known::Live
                },
            });
        }
    }

    /// Kills a process that has leases and puts another one in its place.
    fn replace_owner(&self, sandbox: &Sandbox, owners: &mut Vec<Running>) {
        let owner = owners.remove(0);
        owner.signal(Signal::SIGKILL);
        owner.exit_status(Deadline::short());
        owners.push(sandbox.command(["sleep", "1000"]).spawn());
        let mut ledger = self.ledger();
        ledger.owners = owners.iter().map(Running::pid).collect();
        for lease in ledger.leases.values_mut() {
            if lease.owner == Some(owner.pid()) && lease.known != Known::Released {
                lease.known = Known::Doomed;
            }
        }
    }
}

fn id(lease: &Value) -> String {
    lease["lock_id"].as_str().expect("an id").to_owned()
}

fn port(lease: &Value) -> u64 {
    lease["port"].as_u64().expect("a port")
}

fn start_daemon(sandbox: &Sandbox) -> Running {
    let daemon = sandbox.styxy(["daemon", "start"]).spawn();
    daemon.line_with("Styxy daemon listens on", Deadline::short());
    daemon
}

/// Processes that leases can hang on, if the daemon can watch any for a client out here.
fn owners(sandbox: &Sandbox) -> Vec<Running> {
    let owner = || sandbox.command(["sleep", "1000"]).spawn();
    let owners = [owner(), owner(), owner()];
    let wish = json!({ "service_type": "dev", "pid": owners[0].pid() }).to_string();
    let answer = sandbox.api().send("POST", "/allocate", &wish);
    let (status, lease) = answer.expect("an answer");
    assert_eq!(status, 200, "{lease}");
    let path = format!("/allocate/{}", id(&lease));
    sandbox.api().send("DELETE", &path, "").expect("an answer");
    if lease["heartbeat_seconds"].is_null() {
        return owners.into();
    }
    // In a user namespace of its own it may not look at the processes outside.
    styxy_tests::say("NOTE: the daemon cannot watch processes here: no lease hangs on one");
    Vec::new()
}

fn kill(daemon: &Running) {
    daemon.signal(Signal::SIGKILL);
    daemon.exit_status(Deadline::short());
}

#[test]
fn two_hundred_kills_lose_nothing_bring_nothing_back_and_give_nothing_twice() {
    let sandbox = sandbox();
    let seed = RandomState::new().hash_one("seed");
    let mut daemon = start_daemon(&sandbox);
    let mut owners = owners(&sandbox);
    let world = World {
        seed,
        api: sandbox.api(),
        ledger: Mutex::new(Ledger {
            owners: owners.iter().map(Running::pid).collect(),
            ..Ledger::default()
        }),
        changed: Condvar::new(),
        gate: RwLock::new(()),
        is_over: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let _over = Over(&world);
        for number in 0..CLIENTS {
            let world = &world;
            scope.spawn(move || world.be_client(number));
        }
        let mut random = Random(seed);
        for kills in 1..=KILLS {
            world.work(random.below(OPERATIONS));
            // Anywhere between two steps of the daemon, not just after an answer.
            (0..random.below(20_000)).for_each(|_| std::hint::spin_loop());
            kill(&daemon);
            // The requests that were under way have failed.
            let _closed = world.gate.write().unwrap_or_else(PoisonError::into_inner);
            if kills % OWNER_DIES_EVERY == 0 && !owners.is_empty() {
                world.replace_owner(&sandbox, &mut owners);
            }
            daemon = start_daemon(&sandbox);
            world.check(kills);
            if world.is_over() {
                break;
            }
        }
    });
    world.check(KILLS);
    // Whose owner was killed, with or without a daemon to see it, is gone in the end.
    let none_left = eventually(Deadline::short(), || {
        let list = leases(&sandbox).allocations;
        let ledger = world.ledger();
        let is_doomed = |id: &str| {
            let lease = ledger.leases.get(id);
            lease.is_some_and(|lease| lease.known == Known::Doomed)
        };
        (!list.iter().any(|lease| is_doomed(&lease.lock_id))).then_some(())
    });
    assert!(none_left.is_some(), "seed {seed}: {:?}", leases(&sandbox));
    let ledger = world.ledger();
    let ended = ledger.leases.values();
    let ended = ended.filter(|lease| lease.known == Known::Released).count();
    assert!(ended > KILLS, "only {ended} leases were released");
}
