//! What the doctor says, for people and for programs.

use serde::Serialize;
use serde_json::Value;

use crate::notice::printable;

/// How bad it is, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Nothing is wrong.
    Healthy,
    /// styxy works, but not as well as it could.
    Warning,
    /// styxy does not work.
    Error,
}

/// One section.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// The worst that was found.
    pub(super) status: Status,
    /// One sentence.
    pub(super) message: String,
    /// What was looked at, for programs; a JSON object, in which `suggestions` is what to do.
    pub(super) details: Value,
    /// What to do about it.
    #[serde(skip)]
    pub(super) suggestions: Vec<String>,
}

/// The sections.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Checks {
    pub(super) daemon: Check,
    pub(super) configuration: Check,
    pub(super) ports: Check,
    pub(super) system: Check,
    pub(super) resources: Check,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    status: Status,
    checks: Checks,
    timestamp: String,
}

impl Check {
    /// A section in which nothing is wrong as yet.
    pub(super) fn new(message: impl Into<String>, details: Value) -> Self {
        Self {
            status: Status::Healthy,
            message: message.into(),
            details,
            suggestions: Vec::new(),
        }
    }

    /// Says what is wrong, in place of what is well or before what is wrong as well.
    pub(super) fn blame(&mut self, status: Status, message: &str, suggestion: Option<&str>) {
        if self.status == Status::Healthy {
            message.clone_into(&mut self.message);
        } else {
            self.message = format!("{}; {message}", self.message);
        }
        self.status = self.status.max(status);
        self.suggestions.extend(suggestion.map(str::to_owned));
    }
}

impl Report {
    pub(super) fn new(mut checks: Checks, timestamp: String) -> Self {
        for check in checks.all_mut() {
            if !check.suggestions.is_empty() {
                check.details["suggestions"] = check.suggestions.clone().into();
            }
        }
        let worst = checks
            .all()
            .into_iter()
            .map(|(_, check)| check.status)
            .max();
        Self {
            status: worst.unwrap_or(Status::Healthy),
            checks,
            timestamp,
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.status == Status::Healthy
    }

    pub(super) fn to_text(&self) -> String {
        let checks = self.checks.all();
        let lines = checks.iter().map(|(name, check)| {
            let mark = check.status.mark();
            format!("{mark} {name}: {}", printable(&check.message))
        });
        let mut lines: Vec<String> = lines.collect();
        lines.extend([
            String::new(),
            format!("Overall Status: {}", self.status.in_words()),
        ]);
        let mut suggestions: Vec<String> = Vec::new();
        for suggestion in checks.iter().flat_map(|(_, check)| &check.suggestions) {
            let suggestion = printable(suggestion);
            if !suggestions.contains(&suggestion) {
                suggestions.push(suggestion);
            }
        }
        if !suggestions.is_empty() {
            lines.extend([String::new(), "Recommendations:".to_owned()]);
        }
        let numbered = suggestions.iter().zip(1..);
        lines.extend(numbered.map(|(suggestion, number)| format!("  {number}. {suggestion}")));
        lines.join("\n") + "\n"
    }
}

impl Status {
    fn mark(self) -> char {
        match self {
            Self::Healthy => '✓',
            Self::Warning => '!',
            Self::Error => '✗',
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Warning => "WARNING - styxy works, but not as well as it could",
            Self::Error => "ERROR - commands run, but not with all of styxy's help",
        }
    }
}

impl Checks {
    fn all(&self) -> [(&'static str, &Check); 5] {
        [
            ("DAEMON", &self.daemon),
            ("CONFIGURATION", &self.configuration),
            ("PORTS", &self.ports),
            ("SYSTEM", &self.system),
            ("RESOURCES", &self.resources),
        ]
    }

    fn all_mut(&mut self) -> [&mut Check; 5] {
        [
            &mut self.daemon,
            &mut self.configuration,
            &mut self.ports,
            &mut self.system,
            &mut self.resources,
        ]
    }
}
