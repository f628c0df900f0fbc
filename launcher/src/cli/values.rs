//! What words of the command line have to look like, and what is said of those that do not.

use std::time::Duration;

use styxy_protocol::api::MAX_TTL_SECONDS;
use styxy_protocol::{Port, ServiceType};

use super::Target;

pub(super) fn unprivileged_port(text: &str) -> Result<Port, String> {
    let port: Port = text.parse().map_err(|error| format!("{error}"))?;
    if port.is_privileged() {
        return Err(
            "ports below 1024 are not handed out; run the command without styxy to use one"
                .to_owned(),
        );
    }
    Ok(port)
}

/// A day: who wants to wait longer wants no end.
const MAX_GRACE_SECONDS: f64 = 86_400.0;

/// A number of seconds, with or without a fraction.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (0.0..=MAX_GRACE_SECONDS).contains(number));
    number
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("not a number of seconds from 0 to {MAX_GRACE_SECONDS}"))
}

pub(super) fn service_type(text: &str) -> Result<ServiceType, String> {
    text.parse()
        .map_err(|_| "a service type is 1 to 50 letters, digits and hyphens".to_owned())
}

pub(super) fn service_name(text: &str) -> Result<String, String> {
    word(text, b"-_.")
        .ok_or_else(|| "a name is 1 to 100 letters, digits, `-`, `_` and `.`".to_owned())
}

pub(super) fn instance_id(text: &str) -> Result<String, String> {
    word(text, b"-_")
        .ok_or_else(|| "an instance is 1 to 100 letters, digits, `-` and `_`".to_owned())
}

/// 1 to 100 ASCII letters, digits and `others`.
fn word(text: &str, others: &[u8]) -> Option<String> {
    let is_valid = (1..=100).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte));
    is_valid.then(|| text.to_owned())
}

pub(super) fn ttl(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds))
        .ok_or_else(|| format!("not a number of seconds from 1 to {MAX_TTL_SECONDS} (30 days)"))
}

/// A lock id, or a port.
pub(super) fn target(text: &str) -> Result<Target, String> {
    if is_lock_id(text) {
        return Ok(Target::LockId(text.to_owned()));
    }
    text.parse().map(Target::Port).map_err(|_| {
        "neither a lock id (`styxy list -v` shows them) nor a port number from 1 to 65535"
            .to_owned()
    })
}

/// Whether this is a UUID, as lock ids are.
pub(crate) fn is_lock_id(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
