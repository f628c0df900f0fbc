//! The instances (agents, sessions, editors) that have told that they are there, as a pure state machine.
//!
//! As with leases, a decision answers with [`Record`]s, and [`Instances::apply`] is the only way to change the state.
//! An instance is forgotten when it has been silent for the time to live, unless it has named its process and that
//! still runs: a process that registers by itself sends no heartbeats. Invariant: there are at most
//! [`MAX_INSTANCES`], each of bounded size.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use styxy_protocol::api::{self, Metadata};

use crate::kernel::{ProcessIdentity, rfc3339};

/// How many instances are known at most.
pub(crate) const MAX_INSTANCES: usize = 1000;
/// How much metadata an instance may have: bytes of JSON, and levels of lists and objects.
pub(crate) const MAX_METADATA: usize = 4 * 1024;
const MAX_DEPTH: usize = 8;
/// Characters of a name.
const MAX_NAME: usize = 100;

/// The name of an instance: 1 to 100 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct InstanceId(String);

/// A text that is no name of an instance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instance_id `{}` is not 1 to {MAX_NAME} letters, digits, hyphens and underscores", cut(.0))]
pub(crate) struct InstanceIdError(String);

/// As much of a text that nobody has bounded as belongs into a message.
fn cut(text: &str) -> String {
    text.chars()
        .take(MAX_NAME)
        .flat_map(char::escape_debug)
        .collect()
}

impl InstanceId {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InstanceId {
    type Err = InstanceIdError;

    fn from_str(text: &str) -> Result<Self, InstanceIdError> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InstanceIdError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InstanceIdError;

    fn try_from(text: String) -> Result<Self, InstanceIdError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

/// One instance. The serialised form is the journal's: fields may be added with a default, never renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its name.
    pub(crate) id: InstanceId,
    /// Where it works.
    pub(crate) working_directory: Option<String>,
    /// Its process, as the client numbers it, for display.
    pub(crate) pid: Option<u32>,
    /// The same, if it could be seen.
    pub(crate) process: Option<ProcessIdentity>,
    /// What else it said.
    pub(crate) metadata: Metadata,
    /// The boot that it was last seen in.
    pub(crate) boot: String,
    /// When it registered, in seconds since 1970, for display.
    pub(crate) registered_at: u64,
    /// Its last sign of life.
    pub(crate) seen: Seen,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// As time since boot.
    pub(crate) at: Duration,
    /// In seconds since 1970, for display.
    pub(crate) wall: u64,
}

/// One change. A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// This instance is there, in this form, in place of any form it had before.
    #[serde(rename = "instance_registered")]
    Registered(Box<Instance>),
    /// It has given a sign of life.
    #[serde(rename = "instance_seen")]
    Seen {
        /// Which.
        id: InstanceId,
        /// When.
        seen: Seen,
    },
    /// It is forgotten.
    #[serde(rename = "instance_gone")]
    Gone(InstanceId),
}

/// Why an instance is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegisterRefusal {
    /// There are as many as there may be.
    #[error("{MAX_INSTANCES} instances are registered, as many as there may be")]
    Full,
    /// Its metadata are too long.
    #[error("`metadata` has {0} bytes of JSON, more than {MAX_METADATA}")]
    LongMetadata(usize),
    /// Its metadata are nested too deeply.
    #[error("`metadata` is nested more than {MAX_DEPTH} levels deep")]
    DeepMetadata,
}

/// Every instance.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    by_id: BTreeMap<InstanceId, Instance>,
    /// By the time since boot of the last sign of life.
    by_age: BTreeSet<(Duration, InstanceId)>,
}

impl Instances {
    /// Makes what was decided true. What contradicts the state changes nothing.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Registered(instance) => {
                self.remove(&instance.id);
                self.by_age.insert((instance.seen.at, instance.id.clone()));
                self.by_id.insert(instance.id.clone(), (**instance).clone());
            }
            Record::Seen { id, seen } => {
                if let Some(instance) = self.by_id.get_mut(id) {
                    self.by_age.remove(&(instance.seen.at, id.clone()));
                    instance.seen = *seen;
                    self.by_age.insert((seen.at, id.clone()));
                }
            }
            Record::Gone(id) => self.remove(id),
        }
    }

    /// The records that lead from nothing to this state.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Record> {
        let instances = self.by_id.values().cloned();
        instances.map(|instance| Record::Registered(Box::new(instance)))
    }

    /// Every instance, in ascending order of name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.by_id.values()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The earliest time since boot at which one may have been silent for `ttl`.
    pub(crate) fn next_deadline(&self, ttl: Duration) -> Option<Duration> {
        self.by_age
            .first()
            .map(|(seen, _)| seen.saturating_add(ttl))
    }

    /// Takes in an instance. One that is known begins anew.
    pub(crate) fn register(&self, instance: Instance) -> Result<Record, RegisterRefusal> {
        let length = serde_json::to_vec(&instance.metadata).map_or(0, |json| json.len());
        if length > MAX_METADATA {
            return Err(RegisterRefusal::LongMetadata(length));
        }
        if instance
            .metadata
            .values()
            .any(|value| !is_within(value, MAX_DEPTH - 1))
        {
            return Err(RegisterRefusal::DeepMetadata);
        }
        if self.len() >= MAX_INSTANCES && !self.by_id.contains_key(&instance.id) {
            return Err(RegisterRefusal::Full);
        }
        Ok(Record::Registered(Box::new(instance)))
    }

    /// A sign of life of this instance; `None` if it is not known.
    pub(crate) fn heartbeat(&self, id: &InstanceId, seen: Seen) -> Option<Record> {
        let known = self.by_id.contains_key(id);
        known.then(|| Record::Seen {
            id: id.clone(),
            seen,
        })
    }

    /// What becomes of the instances that have been silent for `ttl`: those whose process runs count as seen, the
    /// rest is forgotten.
    pub(crate) fn expire(
        &self,
        now: Seen,
        ttl: Duration,
        is_alive: &dyn Fn(ProcessIdentity) -> bool,
    ) -> Vec<Record> {
        let silent = self.by_age.iter();
        let silent = silent.take_while(|(seen, _)| seen.saturating_add(ttl) <= now.at);
        let silent = silent.filter_map(|(_, id)| self.by_id.get(id));
        silent
            .map(|instance| match instance.process {
                Some(process) if is_alive(process) => Record::Seen {
                    id: instance.id.clone(),
                    seen: now,
                },
                _ => Record::Gone(instance.id.clone()),
            })
            .collect()
    }

    /// What a daemon that has just read its journal does: times of another boot mean nothing, and its processes are
    /// gone.
    pub(crate) fn recover(&self, boot: &str) -> Vec<Record> {
        let others = self.iter().filter(|instance| instance.boot != boot);
        others
            .map(|instance| Record::Gone(instance.id.clone()))
            .collect()
    }

    fn remove(&mut self, id: &InstanceId) {
        if let Some(instance) = self.by_id.remove(id) {
            self.by_age.remove(&(instance.seen.at, instance.id));
        }
    }
}

impl Instance {
    /// As others see it, with the ids of its leases.
    pub(crate) fn view(&self, active_allocations: Vec<String>) -> api::Instance {
        api::Instance {
            instance_id: self.id.to_string(),
            working_directory: self.working_directory.clone(),
            pid: self.pid,
            registered_at: rfc3339(self.registered_at),
            last_heartbeat: rfc3339(self.seen.wall),
            active_allocations,
            metadata: self.metadata.clone(),
        }
    }
}

/// Whether lists and objects in this value are at most `levels` deep.
fn is_within(value: &Value, levels: usize) -> bool {
    let within = |value| {
        levels
            .checked_sub(1)
            .is_some_and(|rest| is_within(value, rest))
    };
    match value {
        Value::Array(values) => levels > 0 && values.iter().all(within),
        Value::Object(values) => levels > 0 && values.values().all(within),
        _ => true,
    }
}
