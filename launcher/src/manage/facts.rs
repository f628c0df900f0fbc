//! Lines of `Label: value`, and what is said of a lease in them.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use styxy_protocol::api::{Allocation, LeaseState};

use super::view::{View, span};
use crate::notice::printable;

/// Lines with the same indentation.
#[derive(Debug)]
pub(crate) struct Facts {
    indent: usize,
    text: String,
}

impl Facts {
    /// None yet.
    pub(super) fn new(indent: usize) -> Self {
        Self {
            indent,
            text: String::new(),
        }
    }

    /// Adds a line. The value is fit for a terminal already.
    pub(super) fn add(&mut self, label: &str, value: impl Display) {
        let indent = self.indent;
        // Writing into a string does not fail.
        let _ = writeln!(self.text, "{:indent$}{label}: {value}", "");
    }

    /// Adds a line if there is something to say.
    pub(super) fn add_if(&mut self, label: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(label, value);
        }
    }

    /// Adds what somebody wants to know of a lease who does not see it in a table.
    pub(super) fn add_lease(&mut self, lease: &Allocation, view: &View) {
        self.add("Service", &lease.service_type);
        self.add_if("Name", lease.service_name.as_deref().map(printable));
        self.add("State", state(lease.state));
        self.add_if(
            "Project",
            lease.project_path.as_deref().map(|it| view.path(it)),
        );
        self.add_if("PID", lease.pid);
        self.add_if("Command", lease.command.as_deref().map(printable));
        self.add_lease_details(lease, view);
    }

    /// Adds what is in no column of `styxy list`.
    pub(super) fn add_lease_details(&mut self, lease: &Allocation, view: &View) {
        self.add("Lock ID", printable(&lease.lock_id));
        self.add_if("Instance", lease.instance_id.as_deref().map(printable));
        self.add("Allocated", view.ago(&lease.allocated_at));
        let seconds = lease.expires_in.map(Duration::from_secs);
        self.add_if("Expires", seconds.map(|it| format!("in {}", span(it))));
        let package = lease.package_dir.as_ref();
        let package = package.filter(|&package| Some(package) != lease.project_path.as_ref());
        self.add_if("Package", package.map(|it| view.path(it)));
        let listeners = lease.listeners.iter().map(|it| {
            if it.requested == it.port {
                it.port.to_string()
            } else {
                format!("{} (asked for {})", it.port, it.requested)
            }
        });
        let listeners: Vec<String> = listeners.collect();
        self.add_if(
            "Listeners",
            (!listeners.is_empty()).then(|| listeners.join(", ")),
        );
    }
}

impl From<Facts> for String {
    fn from(facts: Facts) -> Self {
        facts.text
    }
}

/// Where a lease stands, in a word.
pub(super) fn state(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Starting => "starting",
        LeaseState::Listening => "listening",
        LeaseState::Detached => "detached",
    }
}
