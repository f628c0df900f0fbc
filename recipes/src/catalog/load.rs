//! From the texts of recipe files to recipes, with every fault reported at its place.

use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::RecipeSource;
use crate::RecipeError;
use crate::schema::{ArgForm, Match, Recipe, RecipeFile};

/// The recipes of all faultless files, and the faults of the others.
pub(super) fn load(sources: Vec<RecipeSource>) -> (Vec<Recipe>, Vec<RecipeError>) {
    let mut errors = Vec::new();
    let mut loaded: Vec<(RecipeSource, Vec<Recipe>)> = Vec::new();
    for source in sources {
        let outcome = parse(&source).and_then(|file| {
            for (other, recipes) in &loaded {
                check_pair(&source, &file.recipes, Some(other), recipes)?;
            }
            Ok(file.recipes)
        });
        match outcome {
            Ok(recipes) => loaded.push((source, recipes)),
            Err(error) => errors.push(error),
        }
    }
    let recipes = loaded
        .into_iter()
        .flat_map(|(_, recipes)| recipes)
        .collect();
    (recipes, errors)
}

/// Reads one file by itself.
pub(super) fn parse(source: &RecipeSource) -> Result<RecipeFile, RecipeError> {
    let file: RecipeFile = toml::from_str(&source.text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        RecipeError::at(&source.path, &source.text, offset, error.message())
    })?;
    for (position, recipe) in file.recipes.iter().enumerate() {
        if let Some(message) = fault(recipe) {
            return Err(at_name(source, position, message));
        }
        check_pair(
            source,
            &file.recipes[position..=position],
            None,
            &file.recipes[..position],
        )
        .map_err(|error| at_name(source, position, error.message))?;
    }
    Ok(file)
}

/// What is wrong with a recipe as a whole.
fn fault(recipe: &Recipe) -> Option<String> {
    let name = recipe.name.as_str();
    if recipe.matches.is_empty() {
        return Some(format!(
            "recipe `{name}` has no `match`, so it could never apply"
        ));
    }
    if recipe
        .port
        .argv
        .first()
        .is_some_and(|form| !form.can_be_added())
    {
        return Some(format!(
            "recipe `{name}`: the first form of `argv` is the one that styxy adds, so it needs a literal host"
        ));
    }
    let repeated = |form: &ArgForm| {
        recipe
            .port
            .argv
            .iter()
            .filter(|other| *other == form)
            .count()
            > 1
    };
    if recipe.port.argv.iter().any(repeated) {
        return Some(format!("recipe `{name}` lists a form of `argv` twice"));
    }
    None
}

/// Whether new recipes get on with those that are there: other names, and no command that both match equally well.
fn check_pair(
    source: &RecipeSource,
    new: &[Recipe],
    other: Option<&RecipeSource>,
    old: &[Recipe],
) -> Result<(), RecipeError> {
    let other = other.map_or_else(String::new, |other| format!(" of {}", other.path.display()));
    for (position, recipe) in new.iter().enumerate() {
        let name = recipe.name.as_str();
        for rival in old {
            let rival_name = rival.name.as_str();
            if name == rival_name {
                let message = format!(
                    "recipe `{name}` is there already{}",
                    other.replace(" of ", ": ")
                );
                return Err(at_name(source, position, message));
            }
            if let Some(table) = tie(recipe, rival) {
                let message = format!(
                    "recipe `{name}` and recipe `{rival_name}`{other} match the same commands equally well; \
                     say more in one of them or set `priority`"
                );
                return Err(at_match(source, position, table, message));
            }
        }
    }
    Ok(())
}

/// The position of the first match table of `recipe` that nothing decides against one of `rival`.
fn tie(recipe: &Recipe, rival: &Recipe) -> Option<usize> {
    let ties = |table: &Match| rival.matches.iter().any(|other| table.ties_with(other));
    (recipe.priority == rival.priority)
        .then(|| recipe.matches.iter().position(ties))
        .flatten()
}

/// Where the names and match tables of a file stand; read a second time only for a message.
#[derive(Deserialize)]
struct Places {
    recipe: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    name: Spanned<IgnoredAny>,
    #[serde(rename = "match", default)]
    matches: Vec<Spanned<IgnoredAny>>,
}

fn at_name(source: &RecipeSource, position: usize, message: String) -> RecipeError {
    at(source, message, |places| {
        Some(places.recipe.get(position)?.name.span())
    })
}

fn at_match(source: &RecipeSource, position: usize, table: usize, message: String) -> RecipeError {
    at(source, message, |places| {
        Some(places.recipe.get(position)?.matches.get(table)?.span())
    })
}

fn at(
    source: &RecipeSource,
    message: String,
    find: impl Fn(&Places) -> Option<Range<usize>>,
) -> RecipeError {
    let offset = toml::from_str::<Places>(&source.text)
        .ok()
        .and_then(|places| find(&places))
        .map_or(0, |span| span.start);
    RecipeError::at(&source.path, &source.text, offset, message)
}
