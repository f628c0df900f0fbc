//! A port when no daemon can be had: chosen as the daemon would, but knowing only what the kernel shows.
//!
//! Invariant: of two launchers that are without a daemon at the same time each has a port of its own, although
//! neither's service listens yet.

use std::cell::RefCell;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use styxy_daemon::kernel;
use styxy_daemon::placement::{self, Placement, SPARES, Wishes};
use styxy_daemon::service_types::ServiceTypes;
use styxy_protocol::Port;
use styxy_protocol::api::{Conflict, Holder};

use super::{Lease, SPARES as SPARE_COUNT, Taken, UNKNOWN, Wish};

/// When not even a random port can be had (no IPv6, where `portpicker` finds none), the command itself will say so.
const LAST_RESORT: Port = Port::new(3000).unwrap();

/// The type whose ports serve for a type that only the daemon may know.
const FALLBACK_TYPE: &str = "dev";

/// A port for this wish, free at this moment and none of `leased`.
pub(super) fn without_daemon(wish: &Wish, leased: &[Port]) -> Result<Lease, Taken> {
    let placement = Placement::new(kernel::ephemeral_range());
    let claimed = RefCell::new(None);
    let is_free = |port: Port| {
        !leased.contains(&port) && kernel::port_is_free(port) && is_unclaimed(port, &claimed)
    };
    let port = choose(wish, &placement, is_free)?;
    let port = port
        .or_else(|| random_port().filter(|&port| is_free(port)))
        .or(wish.wanted())
        .unwrap_or(LAST_RESORT);
    Ok(Lease {
        id: random_id(),
        port,
        spares: spares(port),
        conflict: conflict(wish, &placement, port),
        heartbeat_seconds: None,
        client: None,
        hold: None,
        claim: claimed.into_inner(),
    })
}

/// The first of the daemon's candidates for which `is_free` holds; it is asked of no other after that.
fn choose(
    wish: &Wish,
    placement: &Placement,
    is_free: impl Fn(Port) -> bool,
) -> Result<Option<Port>, Taken> {
    let asked = if wish.strict {
        wish.wanted()
    } else {
        wish.asked
    };
    let by_number = asked.filter(|&port| placement.may_be_asked_for(port) && is_free(port));
    if by_number.is_some() {
        return Ok(by_number);
    }
    if let (true, Some(port)) = (wish.strict, asked) {
        return Err(Taken {
            port,
            holder: UNKNOWN,
        });
    }
    let wishes = Wishes {
        asked,
        last: None,
        default: wish.default,
    };
    // A type of the user's own has no range, and is most probably something for a browser.
    let types = ServiceTypes::builtin();
    let definition = types
        .get(&wish.service_type)
        .or_else(|| types.get(&FALLBACK_TYPE.parse().ok()?));
    Ok(definition.and_then(|definition| {
        placement.first_free(&placement::candidates(wishes, definition, &types), is_free)
    }))
}

/// Why it is not the wanted port.
fn conflict(wish: &Wish, placement: &Placement, got: Port) -> Option<Conflict> {
    let port = wish.wanted().filter(|&wanted| wanted != got)?;
    let reserved = placement.reserved(port).filter(|_| wish.asked.is_none());
    let holder = reserved.map_or(UNKNOWN, |reserved| Holder::Reserved {
        reason: reserved.to_string(),
    });
    Some(Conflict { port, holder })
}

/// Whether no other launcher has claimed the port; from then on this one has.
///
/// The claim is a name in the kernel's abstract namespace of Unix sockets (unix(7)): there is one for each network
/// namespace, as there is for ports, and it goes with the process.
fn is_unclaimed(port: Port, claimed: &RefCell<Option<UnixDatagram>>) -> bool {
    let claim = SocketAddr::from_abstract_name(format!("styxy/port/{port}"))
        .and_then(|name| UnixDatagram::bind_addr(&name));
    match claim {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => false,
        claim => {
            claimed.replace(claim.ok());
            true
        }
    }
}

/// From a random place on, so that two launchers hardly ever choose the same.
fn spares(main: Port) -> Vec<Port> {
    let start = random_port().map_or(0, |port| port.get() % 10_000);
    placement::spares_from(SPARES.start() + start)
        .filter(|&port| port != main && kernel::port_is_free(port))
        .take(usize::from(SPARE_COUNT))
        .collect()
}

fn random_port() -> Option<Port> {
    portpicker::pick_unused_port().and_then(Port::new)
}

/// An identifier nobody else has; the kernel makes one at every read (random(4)).
fn random_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    if id.is_empty() {
        std::process::id().to_string()
    } else {
        id.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::tests::wish;

    fn port(number: u16) -> Port {
        Port::new(number).unwrap()
    }

    fn placement() -> Placement {
        Placement::new(32768..=60999)
    }

    fn chosen(wish: &Wish, taken: &[u16]) -> Option<u16> {
        let is_free = |port: Port| !taken.contains(&port.get());
        choose(wish, &placement(), is_free).unwrap().map(Port::get)
    }

    fn asking(asked: Option<u16>, default: Option<u16>) -> Wish {
        Wish {
            asked: asked.and_then(Port::new),
            default: default.and_then(Port::new),
            ..wish()
        }
    }

    #[test]
    fn ports_are_tried_in_the_daemons_order() {
        for (asked, default, taken, expected) in [
            (Some(4242), Some(5173), [].as_slice(), 4242),
            (Some(4242), Some(5173), &[4242], 5173),
            (None, Some(5173), &[5173, 5174], 5175),
            // What is asked for by number is given, what is a default is not, in the kernel's own range.
            (Some(40000), None, &[], 40000),
            (None, Some(40000), &[], 3000),
            (Some(80), None, &[], 3000),
            (None, None, &[3000], 3001),
        ] {
            let wish = asking(asked, default);
            assert_eq!(chosen(&wish, taken), Some(expected), "{wish:?}");
        }
        let own_type = Wish {
            service_type: "kitchen".parse().unwrap(),
            ..asking(None, None)
        };
        assert_eq!(chosen(&own_type, &[]), Some(3000));
        let nothing = choose(&wish(), &placement(), |_| false).unwrap();
        assert_eq!(nothing, None);
    }

    #[test]
    fn strict_is_this_port_or_none() {
        let strict = |asked| Wish {
            strict: true,
            ..asking(asked, Some(5173))
        };
        assert_eq!(chosen(&strict(None), &[]), Some(5173));
        for (asked, taken) in [(Some(4242), 4242), (None, 5173)] {
            let is_free = |port: Port| port.get() != taken;
            let refused = choose(&strict(asked), &placement(), is_free).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!("port {taken} is taken; without `--strict` another one is used")
            );
        }
    }

    #[test]
    fn a_port_that_is_not_handed_out_is_not_said_to_be_in_use() {
        let told = |asked, default, got| conflict(&asking(asked, default), &placement(), port(got));
        assert_eq!(told(None, Some(5173), 5173), None);
        assert_eq!(told(None, None, 3000), None);
        assert_eq!(told(Some(5173), None, 3000).unwrap().holder, UNKNOWN);
        let reserved = told(None, Some(40000), 3000).unwrap();
        assert_eq!(reserved.port, port(40000));
        assert!(matches!(reserved.holder, Holder::Reserved { .. }));
    }

    #[test]
    fn two_launchers_without_a_daemon_have_different_ports() {
        let (one, other) = (
            without_daemon(&wish(), &[]).unwrap(),
            without_daemon(&wish(), &[]).unwrap(),
        );
        assert_ne!(one.port, other.port);
        assert_ne!(one.id, other.id);
        for lease in [&one, &other] {
            assert_eq!(lease.spares.len(), 2, "{lease:?}");
            assert!(!lease.spares.contains(&lease.port), "{lease:?}");
        }
    }

    #[test]
    fn a_port_that_is_leased_to_others_is_none_to_take() {
        let leased: Vec<Port> = (3000..=3090).filter_map(Port::new).collect();
        let lease = without_daemon(&wish(), &leased).unwrap();
        assert!(!leased.contains(&lease.port), "{lease:?}");
    }

    #[test]
    fn a_claim_goes_with_its_launcher() {
        let claimed = RefCell::new(None);
        let (one, another) = (port(1), RefCell::new(None));
        assert!(is_unclaimed(one, &claimed));
        assert!(!is_unclaimed(one, &another));
        drop(claimed);
        assert!(is_unclaimed(one, &another));
    }
}
