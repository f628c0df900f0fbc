//! `styxy config validate`: what is wrong with the configuration files. Needs no daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use styxy_daemon::config::{self, ConfigError, Loaded, Problem};

use crate::context::Context;
use crate::manage::Done;
use crate::manage::view::View;
use crate::notice::printable;
use crate::places::{self, PlacesError};
use crate::{exit_codes, output};

/// What is printed as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    valid: bool,
    service_types: usize,
    files: Vec<PathBuf>,
    problems: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Serialize)]
struct Finding {
    path: PathBuf,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    /// The line, and below it a mark under what is meant.
    #[serde(skip)]
    excerpt: Option<String>,
}

pub(super) fn validate(context: &Context, json: bool) -> Done {
    let home = places::home(context).ok_or(PlacesError::NoHome)?;
    let verdict = Verdict::from(config::load(&home));
    if json {
        output::print_json(&verdict);
    } else {
        output::print(&verdict.to_text(&View::of(context)));
    }
    Ok(ExitCode::from(if verdict.valid {
        0
    } else {
        exit_codes::FAILURE
    }))
}

impl From<Result<Loaded, ConfigError>> for Verdict {
    fn from(loaded: Result<Loaded, ConfigError>) -> Self {
        match loaded {
            Ok(loaded) => Self {
                valid: true,
                service_types: loaded.settings.types.iter().count(),
                files: loaded.files,
                problems: Vec::new(),
            },
            Err(error) => Self {
                valid: false,
                service_types: 0,
                files: Vec::new(),
                problems: error.problems.into_iter().map(Finding::from).collect(),
            },
        }
    }
}

impl From<Problem> for Finding {
    fn from(problem: Problem) -> Self {
        let place = problem.place.as_ref();
        Self {
            line: place.map(|it| it.line),
            column: place.map(|it| it.column),
            excerpt: problem.excerpt(),
            path: problem.path,
            message: problem.message,
        }
    }
}

impl Verdict {
    pub(super) fn to_text(&self, view: &View) -> String {
        let mut lines = Vec::new();
        for problem in &self.problems {
            let path = view.path(&problem.path.to_string_lossy());
            let place = problem.line.zip(problem.column);
            let place = place.map(|(line, column)| format!(":{line}:{column}"));
            let message = printable(&problem.message);
            lines.push(format!("{path}{}: {message}", place.unwrap_or_default()));
            lines.extend(
                problem
                    .excerpt
                    .iter()
                    .flat_map(|it| it.lines())
                    .map(printable),
            );
        }
        lines.push(if self.valid {
            "Configuration is valid".to_owned()
        } else {
            "Configuration is not valid; what does not depend on the faults stays in force"
                .to_owned()
        });
        if self.valid {
            lines.push(format!("Service types: {}", self.service_types));
            // The ranges would have been a problem otherwise.
            lines.push("No port range overlaps detected".to_owned());
            let files = self.files.iter().map(|it| view.path(&it.to_string_lossy()));
            lines.extend(files.map(|file| format!("File: {file}")));
        }
        lines.join("\n") + "\n"
    }
}
