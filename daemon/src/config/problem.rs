//! What is wrong with the configuration, and where.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Source;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line and column, each from 1, and the text of the line; `None` if the file as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong, with the value, and what is allowed.
    pub message: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// How many characters of the line are meant, at least 1.
    pub width: usize,
    /// The line.
    pub text: String,
}

/// A place in a file, cheap to keep with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) source: Arc<Source>,
    pub(super) span: Range<usize>,
}

impl Mark {
    /// A problem here.
    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            path: self.source.path.clone(),
            place: Some(place(&self.source.text, self.span.clone())),
            message: message.into(),
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { line, column, .. } = place(&self.source.text, self.span.clone());
        write!(f, "{}:{line}:{column}", self.source.path.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Problem {
    /// A problem with a file as a whole.
    pub(super) fn of_file(path: &Path, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            place: None,
            message: message.into(),
        }
    }

    /// The line that is meant, and under it a mark where, for a terminal: two lines. `None` without a place.
    pub fn excerpt(&self) -> Option<String> {
        let place = self.place.as_ref()?;
        let number = place.line.to_string();
        // Tabs would move the marks away from what they are under.
        let text: String = place.text.chars().map(blank_for_tab).collect();
        Some(format!(
            "{number} | {text}\n{} | {}{}",
            " ".repeat(number.len()),
            " ".repeat(place.column - 1),
            "^".repeat(place.width)
        ))
    }
}

fn blank_for_tab(character: char) -> char {
    if character == '\t' { ' ' } else { character }
}

/// Where a span of a text is; of several lines the first counts.
pub(super) fn place(text: &str, span: Range<usize>) -> Place {
    let start = floor(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let column = text[line_start..start].chars().count();
    let end = floor(text, span.end).clamp(start, line_start + line.len().max(start - line_start));
    Place {
        line: text[..line_start].matches('\n').count() + 1,
        column: column + 1,
        width: text[start..end].chars().count().max(1),
        text: line.to_owned(),
    }
}

/// The last offset up to this one at which a character begins, or the end.
pub(super) fn floor(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
