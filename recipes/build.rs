//! Turns `builtin/*.toml` into tables: each recipe as compact JSON, and an index from trigger word to recipes,
//! so that a run of styxy parses only the one or two recipes that its command could match.
//!
//! Nothing is judged here; `cargo test -p styxy-recipes` reads the same files strictly and compares the index.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=builtin");
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to learn where cargo wants the output"
    )]
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let mut files: Vec<PathBuf> = fs::read_dir("builtin")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();

    let mut recipes = Vec::new();
    let mut index: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for path in files {
        for recipe in read(&path).map_err(|error| format!("{}: {error}", path.display()))? {
            for word in triggers(&recipe) {
                let entry = index.entry(word).or_default();
                if entry.last() != Some(&recipes.len()) {
                    entry.push(recipes.len());
                }
            }
            recipes.push(serde_json::to_string(&recipe)?);
        }
    }
    fs::write(
        Path::new(&out_dir).join("builtin.rs"),
        source(&recipes, &index)?,
    )?;
    Ok(())
}

/// The recipes of a file without what only people and tests read.
fn read(path: &Path) -> Result<Vec<Table>, Box<dyn Error>> {
    let mut file: Table = toml::from_str(&fs::read_to_string(path)?)?;
    let Some(Value::Array(recipes)) = file.remove("recipe") else {
        return Err("no `[[recipe]]`".into());
    };
    recipes
        .into_iter()
        .map(|recipe| match recipe {
            Value::Table(mut recipe) => {
                recipe.remove("notes");
                Ok(recipe)
            }
            _ => Err("`recipe` is not a table".into()),
        })
        .collect()
}

/// The same words as `Match::triggers`; a test compares them.
fn triggers(recipe: &Table) -> Vec<String> {
    let matches = recipe.get("match").and_then(Value::as_array);
    let mut words = Vec::new();
    for table in matches.into_iter().flatten() {
        let list = |key: &str| -> Vec<&str> {
            let values = table.get(key).and_then(Value::as_array);
            values
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect()
        };
        let (modules, files, programs) = (list("module"), list("file"), list("program"));
        let dependencies = list("dependency");
        if !modules.is_empty() {
            words.extend(modules.iter().map(|module| format!("-m {module}")));
        } else if !files.is_empty() && !files.iter().any(|file| file.starts_with('*')) {
            words.extend(files.iter().map(|file| format!("./{file}")));
        } else if !programs.is_empty() {
            words.extend(programs.iter().map(ToString::to_string));
        } else if !dependencies.is_empty() {
            words.extend(dependencies.iter().map(|name| format!("+{name}")));
        } else {
            words.push("*".to_owned());
        }
    }
    words
}

fn source(
    recipes: &[String],
    index: &BTreeMap<String, Vec<usize>>,
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "/// Every built-in recipe as JSON.")?;
    writeln!(text, "static RECIPES: &[&str] = &[")?;
    for recipe in recipes {
        writeln!(text, "    {recipe:?},")?;
    }
    writeln!(text, "];")?;
    writeln!(
        text,
        "/// Trigger word and positions in `RECIPES`, sorted by word."
    )?;
    writeln!(text, "static INDEX: &[(&str, &[usize])] = &[")?;
    for (word, positions) in index {
        writeln!(text, "    ({word:?}, &{positions:?}),")?;
    }
    writeln!(text, "];")?;
    Ok(text)
}
