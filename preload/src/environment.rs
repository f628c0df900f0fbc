//! Where this process's session directory is: the directory of our own entry in `LD_PRELOAD`.
//!
//! The variable itself carries the configuration, because task runners that strip the environment of
//! their children keep `LD_PRELOAD`. The loader splits its value at spaces and colons.

use styxy_protocol::table::{LIBRARY_NAME, MAX_DIRECTORY_LEN};

/// The directory of the last entry named `styxy.so`: the launcher appends its own to what it inherits.
pub fn session_directory(ld_preload: &[u8]) -> Option<&[u8]> {
    ld_preload
        .rsplit(|&byte| byte == b':' || byte == b' ')
        .find_map(|entry| {
            entry
                .strip_suffix(LIBRARY_NAME.as_bytes())?
                .strip_suffix(b"/")
        })
        .filter(|directory| directory.len() <= MAX_DIRECTORY_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_directory_is_that_of_our_last_entry() {
        let long = format!("/{}/styxy.so", "x".repeat(MAX_DIRECTORY_LEN));
        for (value, expected) in [
            ("/run/s/1/styxy.so", Some("/run/s/1")),
            ("/lib/other.so:/run/s/1/styxy.so", Some("/run/s/1")),
            ("/run/s/1/styxy.so /lib/other.so", Some("/run/s/1")),
            ("/run/s/1/styxy.so:/run/s/2/styxy.so", Some("/run/s/2")),
            ("/styxy.so", Some("")),
            ("styxy.so", None),
            ("/lib/notstyxy.so", None),
            ("/run/s/1/styxy.so.bak", None),
            ("", None),
            ("::", None),
            (long.as_str(), None),
        ] {
            assert_eq!(
                session_directory(value.as_bytes()),
                expected.map(str::as_bytes),
                "{value:?}"
            );
        }
    }
}
