//! The ports that browsers refuse to open, so that no service ever gets one.
//!
//! Source: the table "bad port" of the Fetch standard, <https://fetch.spec.whatwg.org/#port-blocking>,
//! as of 2026-07-02. Invariant: ascending, as the look-up is a binary search.

use styxy_protocol::Port;

/// Every bad port of the Fetch standard but 0, ascending.
pub const BAD_PORTS: &[u16] = &[
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
    103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
    512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
    995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
    6669, 6679, 6697, 10080,
];

/// Whether browsers refuse to load anything from this port.
pub fn is_bad_port(port: Port) -> bool {
    BAD_PORTS.binary_search(&port.get()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_and_complete() {
        assert!(BAD_PORTS.is_sorted_by(|a, b| a < b));
        assert_eq!(
            BAD_PORTS.len(),
            82,
            "82 rows of the standard's table besides port 0"
        );
    }

    #[test]
    fn x11_is_bad_and_storybook_is_not() {
        assert!(is_bad_port(Port::new(6000).unwrap()));
        assert!(!is_bad_port(Port::new(6006).unwrap()));
    }
}
