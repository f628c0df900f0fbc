//! Which ports may be handed out at all, and in which order they are tried for one service.
//!
//! Pure. Invariant: a port that is reserved is never given to somebody who has not asked for it by number, with
//! one exception: where everything else that a request would take is gone or lies in the kernel's ephemeral
//! range, an ephemeral port is better than none.

use std::fmt;
use std::ops::RangeInclusive;

use styxy_protocol::Port;

use crate::browser_ports::is_bad_port;
use crate::service_types::{Definition, ServiceTypes};

/// Spare ports come from here: no service type has ports in it, and it lies below the usual ephemeral range.
pub const SPARES: RangeInclusive<u16> = 20_000..=29_999;

/// How many ports after a tool's default are tried before those of the service type.
const NEIGHBOURS: u16 = 9;

/// Why a port is not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Below 1024.
    Privileged,
    /// Browsers refuse it.
    BadPort,
    /// The kernel gives it to outgoing connections.
    Ephemeral,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "ports below 1024 need a privilege",
            Self::BadPort => "browsers refuse to open this port",
            Self::Ephemeral => "the kernel uses this port for outgoing connections",
        })
    }
}

/// The rules that hold for every port of this machine.
#[derive(Clone, Debug)]
pub struct Placement {
    ephemeral: RangeInclusive<u16>,
}

impl Placement {
    /// The rules of a machine with this ephemeral range.
    pub fn new(ephemeral: RangeInclusive<u16>) -> Self {
        Self { ephemeral }
    }

    /// The machine's ephemeral range.
    pub fn ephemeral(&self) -> &RangeInclusive<u16> {
        &self.ephemeral
    }

    /// Why this port is not handed out, if so.
    pub fn reserved(&self, port: Port) -> Option<Reserved> {
        if port.is_privileged() {
            Some(Reserved::Privileged)
        } else if is_bad_port(port) {
            Some(Reserved::BadPort)
        } else if self.ephemeral.contains(&port.get()) {
            Some(Reserved::Ephemeral)
        } else {
            None
        }
    }

    /// Whether somebody who names this port may have it. What is reserved is never chosen for anybody, but who
    /// asks for it would get it without us.
    pub fn may_be_asked_for(&self, port: Port) -> bool {
        !port.is_privileged()
    }

    /// The first of these ports that may be handed out and for which `is_free` holds.
    pub fn first_free(
        &self,
        candidates: &(impl Iterator<Item = Port> + Clone),
        is_free: impl Fn(Port) -> bool,
    ) -> Option<Port> {
        let find = |rule: Option<Reserved>| {
            let mut candidates = candidates.clone();
            candidates.find(|&port| self.reserved(port) == rule && is_free(port))
        };
        find(None).or_else(|| find(Some(Reserved::Ephemeral)))
    }
}

/// The ports that a service would like to have, best first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// What the command or the user asks for.
    pub asked: Option<Port>,
    /// What it had last time.
    pub last: Option<Port>,
    /// What the tool takes by itself.
    pub default: Option<Port>,
}

/// Every port that the service may get, in the order in which they are tried; some come twice.
pub fn candidates(
    wishes: Wishes,
    definition: &Definition,
    types: &ServiceTypes,
) -> impl Iterator<Item = Port> + Clone {
    let own = [wishes.asked, wishes.last, wishes.default];
    let neighbours = wishes
        .default
        .map(|default| neighbours(default.get(), types));
    own.into_iter()
        .flatten()
        .chain(neighbours.into_iter().flatten().filter_map(Port::new))
        .chain(definition.candidates())
}

/// Every spare port once, from `start` on.
pub fn spares_from(start: u16) -> impl Iterator<Item = Port> + Clone {
    let start = if SPARES.contains(&start) {
        start
    } else {
        *SPARES.start()
    };
    (start..=*SPARES.end())
        .chain(*SPARES.start()..start)
        .filter_map(Port::new)
}

/// The few ports after a tool's default that belong to no service type: what the tool itself would try next.
fn neighbours(default: u16, types: &ServiceTypes) -> impl Iterator<Item = u16> + Clone {
    (default..=default.saturating_add(NEIGHBOURS))
        .skip(1)
        .filter(|port| !types.has_port(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn order(wishes: Wishes, name: &str) -> Vec<u16> {
        let types = ServiceTypes::builtin();
        let definition = types.get(&name.parse().unwrap()).unwrap();
        candidates(wishes, definition, &types)
            .map(Port::get)
            .collect()
    }

    #[test]
    fn asked_then_last_then_default_then_neighbours_then_the_type() {
        let wishes = Wishes {
            asked: Some(port(4242)),
            last: Some(port(3007)),
            default: Some(port(5173)),
        };
        let order = order(wishes, "dev");
        assert_eq!(order[..3], [4242, 3007, 5173]);
        assert_eq!(
            order[3..12],
            [5174, 5175, 5176, 5177, 5178, 5179, 5180, 5181, 5182]
        );
        assert_eq!(order[12..18], [3000, 3001, 3002, 3003, 3000, 3001]);
        assert_eq!(order.last(), Some(&3099));
    }

    #[test]
    fn neighbours_that_belong_to_a_type_are_left_to_it() {
        let wishes = Wishes {
            default: Some(port(4999)),
            ..Wishes::default()
        };
        assert_eq!(order(wishes, "docs")[..2], [4999, 4100]);
        let wishes = Wishes {
            default: Some(port(65535)),
            ..Wishes::default()
        };
        assert_eq!(order(wishes, "docs")[..2], [65535, 4100]);
    }

    #[test]
    fn privileged_bad_and_ephemeral_ports_are_reserved() {
        let placement = Placement::new(32768..=60999);
        for (number, reserved) in [
            (80, Some(Reserved::Privileged)),
            (1023, Some(Reserved::Privileged)),
            (1024, None),
            (6000, Some(Reserved::BadPort)),
            (32767, None),
            (32768, Some(Reserved::Ephemeral)),
            (60999, Some(Reserved::Ephemeral)),
            (61000, None),
        ] {
            assert_eq!(placement.reserved(port(number)), reserved, "{number}");
        }
    }

    #[test]
    fn an_ephemeral_port_is_better_than_none_but_nothing_else_is() {
        let everything = Placement::new(1024..=65535);
        let free = everything.first_free(&[port(80), port(6000), port(3000)].into_iter(), |_| true);
        assert_eq!(free, Some(port(3000)));
        let some = Placement::new(3000..=3099);
        let free = some.first_free(&[port(3000), port(4000)].into_iter(), |_| true);
        assert_eq!(free, Some(port(4000)));
        let free = some.first_free(&[port(80), port(6000)].into_iter(), |_| true);
        assert_eq!(free, None);
    }

    #[test]
    fn spares_go_round_and_belong_to_nobody_else() {
        assert_eq!(
            spares_from(29_999)
                .map(Port::get)
                .take(2)
                .collect::<Vec<_>>(),
            [29_999, 20_000]
        );
        assert_eq!(spares_from(25_000).count(), 10_000);
        assert_eq!(spares_from(0).next(), Port::new(20_000));
        for definition in ServiceTypes::builtin().iter() {
            assert!(*definition.range.end() < 20_000, "{}", definition.name);
        }
    }
}
