//! The values of environment variables that go with a session.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use styxy_protocol::table::LIBRARY_NAME;

/// Ours last: what the user preloads keeps its place before everything else.
pub(super) fn ld_preload(inherited: Option<&OsStr>, library: &Path) -> OsString {
    let inherited = inherited.unwrap_or_default().as_bytes();
    let mut value: Vec<u8> = inherited
        .split(|&byte| byte == b':' || byte == b' ')
        .filter(|entry| !entry.is_empty() && !is_ours(entry))
        .flat_map(|entry| [entry, b":"])
        .flatten()
        .copied()
        .collect();
    value.extend(library.as_os_str().as_bytes());
    OsString::from_vec(value)
}

/// The library of an outer run of styxy; two of them would fight over one bind.
fn is_ours(entry: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(entry)).file_name() == Some(OsStr::new(LIBRARY_NAME))
}

const NO_LINK_ORDER: &[u8] = b"verify_asan_link_order=0";

pub(super) fn asan_options(inherited: Option<&OsStr>) -> OsString {
    let mut value = inherited.unwrap_or_default().to_owned().into_vec();
    if !value.ends_with(NO_LINK_ORDER) {
        if !value.is_empty() {
            value.push(b':');
        }
        // The last setting counts.
        value.extend(NO_LINK_ORDER);
    }
    OsString::from_vec(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_libraries_stay_and_those_of_other_sessions_go() {
        for (inherited, expected) in [
            ("", "/s/2/styxy.so"),
            ("/lib/a.so", "/lib/a.so:/s/2/styxy.so"),
            ("/lib/a.so /lib/b.so", "/lib/a.so:/lib/b.so:/s/2/styxy.so"),
            ("/s/1/styxy.so", "/s/2/styxy.so"),
            ("/lib/a.so:/s/1/styxy.so", "/lib/a.so:/s/2/styxy.so"),
            ("/s/1/styxy.so:libb.so", "libb.so:/s/2/styxy.so"),
            (":", "/s/2/styxy.so"),
        ] {
            assert_eq!(
                ld_preload(Some(OsStr::new(inherited)), Path::new("/s/2/styxy.so")),
                expected,
                "{inherited:?}"
            );
        }
        let alone = ld_preload(None, Path::new("/s/2/styxy.so"));
        assert_eq!(alone, "/s/2/styxy.so");
    }

    #[test]
    fn the_sanitizer_is_told_once() {
        for (inherited, expected) in [
            (None, "verify_asan_link_order=0"),
            (
                Some("detect_leaks=0"),
                "detect_leaks=0:verify_asan_link_order=0",
            ),
            (Some("verify_asan_link_order=0"), "verify_asan_link_order=0"),
            (
                Some("verify_asan_link_order=1"),
                "verify_asan_link_order=1:verify_asan_link_order=0",
            ),
        ] {
            assert_eq!(asan_options(inherited.map(OsStr::new)), expected);
        }
    }
}
