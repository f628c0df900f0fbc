//! All recipes in force. The built-in ones are indexed when styxy is built, so that a run parses only candidates.
//!
//! A recipe file is in force as a whole or not at all: one fault leaves all of it out.

mod load;

use std::borrow::Cow;
use std::path::PathBuf;

use crate::RecipeError;
use crate::schema::{DEPENDENCY, Match, Recipe, RecipeFile};

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

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
pub struct Catalog {
    user: Vec<Recipe>,
}

/// A recipe that a command could match.
#[derive(Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) recipe: Cow<'a, Recipe>,
    pub(crate) from_user: bool,
}

impl Catalog {
    /// The recipes that come with styxy. Costs nothing: they are parsed when a command calls for them.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// Adds the user's recipes, which win over built-in ones. Broken files are left out and reported.
    #[must_use]
    pub fn with_user_recipes(mut self, sources: Vec<RecipeSource>) -> (Self, Vec<RecipeError>) {
        let (recipes, errors) = load::load(sources);
        self.user.extend(recipes);
        (self, errors)
    }

    /// The recipe with this name.
    pub fn recipe(&self, name: &str) -> Option<Recipe> {
        let builtin = || (0..RECIPES.len()).map(builtin);
        self.user
            .iter()
            .cloned()
            .chain(builtin())
            .find(|recipe| recipe.name.as_str() == name)
    }

    /// Names of the recipes in force, the user's first.
    pub fn names(&self) -> Vec<String> {
        let user = self
            .user
            .iter()
            .map(|recipe| recipe.name.as_str().to_owned());
        let builtin = (0..RECIPES.len())
            .map(|position| builtin(position).name.as_str().to_owned())
            .filter(|name| !self.is_replaced(name));
        user.chain(builtin).collect()
    }

    /// The recipes with one of these trigger words, each once.
    pub(crate) fn candidates(&self, words: &[String]) -> Vec<Candidate<'_>> {
        let mut found: Vec<Candidate<'_>> = self
            .user
            .iter()
            .filter(|recipe| {
                let mut triggers = recipe.matches.iter().flat_map(Match::triggers);
                triggers.any(|trigger| words.contains(&trigger))
            })
            .map(|recipe| Candidate {
                recipe: Cow::Borrowed(recipe),
                from_user: true,
            })
            .collect();
        let mut positions: Vec<usize> = words
            .iter()
            .flat_map(|word| positions(word))
            .copied()
            .collect();
        positions.sort_unstable();
        positions.dedup();
        for position in positions {
            let recipe = builtin(position);
            if !self.is_replaced(recipe.name.as_str()) {
                found.push(Candidate {
                    recipe: Cow::Owned(recipe),
                    from_user: false,
                });
            }
        }
        found
    }

    /// The trigger words of the recipes that go by dependencies alone, as far as the package has them.
    pub(crate) fn dependency_words(&self, has: impl Fn(&str) -> bool) -> Vec<String> {
        let tables = self.user.iter().flat_map(|recipe| &recipe.matches);
        let of_user = tables.flat_map(Match::triggers);
        let start = INDEX.partition_point(|(word, _)| *word < DEPENDENCY);
        let builtin = INDEX[start..].iter().map(|(word, _)| (*word).to_owned());
        let builtin = builtin.take_while(|word| word.starts_with(DEPENDENCY));
        let has = |word: &String| word.strip_prefix(DEPENDENCY).is_some_and(&has);
        of_user.chain(builtin).filter(has).collect()
    }

    fn is_replaced(&self, name: &str) -> bool {
        self.user.iter().any(|recipe| recipe.name.as_str() == name)
    }
}

impl RecipeFile {
    /// Reads one recipe file strictly, as [`Catalog::with_user_recipes`] does.
    ///
    /// # Errors
    /// The first fault with its place.
    pub fn parse(source: &RecipeSource) -> Result<Self, RecipeError> {
        load::parse(source)
    }
}

fn positions(word: &str) -> &'static [usize] {
    INDEX
        .binary_search_by(|(trigger, _)| (*trigger).cmp(word))
        .map_or(&[], |position| INDEX[position].1)
}

fn builtin(position: usize) -> Recipe {
    serde_json::from_str(RECIPES[position])
        .unwrap_or_else(|error| unreachable!("the tests read every built-in recipe: {error}"))
}

#[cfg(test)]
mod tests;
