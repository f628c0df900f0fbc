//! What is wrong with a recipe file, said so that its author finds the place.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault in one recipe file. Its `Display` is `path:line:column: message`, the line, and a caret under the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The text of that line.
    pub source_line: String,
}

impl RecipeError {
    /// The fault at byte `offset` of `text`.
    pub(crate) fn at(path: &Path, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let offset = (0..=offset.min(text.len()))
            .rev()
            .find(|&offset| text.is_char_boundary(offset))
            .unwrap_or(0);
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let source_line = text[line_start..].lines().next().unwrap_or("");
        Self {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: text[line_start..offset].chars().count() + 1,
            message: message.into(),
            source_line: source_line.to_owned(),
        }
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, .. } = self;
        writeln!(
            f,
            "{}:{line}:{column}: {}",
            self.path.display(),
            self.message
        )?;
        // Tabs and control characters are shown as one column each, so that the caret stands right.
        let visible = self
            .source_line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c });
        writeln!(f, "  {}", visible.collect::<String>())?;
        write!(f, "  {:>column$}", "^")
    }
}

impl std::error::Error for RecipeError {}
