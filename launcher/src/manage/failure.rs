//! Why a management command could not do what it was asked, and how that is said.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};
use styxy_protocol::api::ErrorResponse;

use super::remote::RemoteError;
use crate::background::StartError;
use crate::cli::Format;
use crate::notice::printable;
use crate::places::PlacesError;
use crate::{exit_codes, notice, output};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is nowhere to meet a daemon.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// None could be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It gave no good answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// `STYXY_DAEMON_PORT` is set to this.
    #[error("`STYXY_DAEMON_PORT` is `{0}`, which is not a port number from 1 to 65535")]
    DaemonPort(String),
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The command line asks for what is impossible as things are.
    #[error("{0}")]
    Usage(String),
    /// What was asked for cannot be had as things are.
    #[error("{0}")]
    Impossible(String),
}

impl Failure {
    /// As an error of the operating system that came of doing `action` to `path`.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// Says it on stderr, and as JSON on stdout where JSON is expected there; the exit code that goes with it.
    pub(super) fn tell(&self, format: Format) -> ExitCode {
        if format.json {
            output::print_json(&self.body());
        }
        notice::fatal(&self.lines());
        ExitCode::from(match self {
            Self::Usage(_) => exit_codes::USAGE,
            _ => exit_codes::FAILURE,
        })
    }

    /// What happened, and on further lines what to do about it. Nothing in it can pass for a line of its own.
    pub(super) fn lines(&self) -> String {
        let mut text = printable(&self.to_string());
        for remedy in self.refusal().map(remedies).unwrap_or_default() {
            text.push('\n');
            text.push_str(&printable(remedy));
        }
        text
    }

    /// The answer of the daemon, or something like it.
    fn body(&self) -> Value {
        let body = self.refusal().map(serde_json::to_value);
        body.and_then(Result::ok)
            .unwrap_or_else(|| json!({ "success": false, "error": self.to_string() }))
    }

    fn refusal(&self) -> Option<&ErrorResponse> {
        match self {
            Self::Remote(RemoteError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// What the daemon says that can be done.
fn remedies(refusal: &ErrorResponse) -> Vec<&str> {
    let suggestions = refusal.context.iter().flat_map(|it| &it.suggestions);
    let mut remedies: Vec<&str> = refusal.suggestion.as_deref().into_iter().collect();
    remedies.extend(suggestions.map(String::as_str));
    remedies.dedup();
    remedies
}

#[cfg(test)]
mod tests {
    use styxy_protocol::api::{ErrorCode, ErrorContext};

    use super::*;

    fn refused(error: &str, suggestion: Option<&str>, suggestions: &[&str]) -> Failure {
        Failure::Remote(RemoteError::Refused(Box::new(ErrorResponse {
            success: false,
            error: error.to_owned(),
            code: ErrorCode::RangeExhausted,
            suggestion: suggestion.map(str::to_owned),
            holder: None,
            context: Some(Box::new(ErrorContext {
                suggestions: suggestions.iter().map(|&it| it.to_owned()).collect(),
                ..ErrorContext::default()
            })),
        })))
    }

    #[test]
    fn a_refusal_is_followed_by_what_to_do_about_it() {
        let failure = refused(
            "no port is free",
            Some("end one"),
            &["end one", "ask for another"],
        );
        assert_eq!(failure.lines(), "no port is free\nend one\nask for another");
        assert_eq!(refused("no", None, &[]).lines(), "no");
    }

    #[test]
    fn nothing_in_a_failure_can_pass_for_a_line_of_its_own() {
        let failure = refused(
            "held by `a\nstyxy: all is well\u{1b}[2J`",
            Some("x\ny"),
            &[],
        );
        assert_eq!(
            failure.lines(),
            "held by `a\\u{a}styxy: all is well\\u{1b}[2J`\nx\\u{a}y"
        );
    }

    #[test]
    fn json_is_the_daemons_body_or_something_like_it() {
        assert_eq!(refused("no", None, &[]).body()["code"], "range_exhausted");
        let body = Failure::DaemonPort("x".to_owned()).body();
        assert_eq!(body["success"], false);
        assert!(body["error"].as_str().unwrap().contains("`x`"), "{body}");
    }
}
