//! The tables that the build made agree with what the strict reader makes of the same files.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_index_finds_every_built_in_recipe_by_each_of_its_triggers() {
    let mut expected = BTreeSet::new();
    for position in 0..RECIPES.len() {
        let recipe = builtin(position);
        for trigger in recipe.matches.iter().flat_map(Match::triggers) {
            expected.insert((trigger, position));
        }
    }
    let indexed: BTreeSet<(String, usize)> = INDEX
        .iter()
        .flat_map(|(word, positions)| {
            positions
                .iter()
                .map(|position| ((*word).to_owned(), *position))
        })
        .collect();
    assert_eq!(indexed, expected);
    assert!(RECIPES.len() >= 10);
}

#[test]
fn built_in_recipes_do_not_tie() {
    let recipes: Vec<Recipe> = (0..RECIPES.len()).map(builtin).collect();
    for (position, a) in recipes.iter().enumerate() {
        for b in &recipes[position + 1..] {
            assert_ne!(a.name, b.name);
            let ties = a
                .matches
                .iter()
                .any(|table| b.matches.iter().any(|other| table.ties_with(other)));
            assert!(
                !ties || a.priority != b.priority,
                "{} ties with {}",
                a.name.as_str(),
                b.name.as_str()
            );
        }
    }
}
