//! `docs/recipes.md` is made from the built-in recipes. Run the tests with `STYXY_WRITE_DOCS=1` to write it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use styxy_protocol::BUILTIN_SERVICE_TYPES;
use styxy_recipes::schema::{
    ArgForm, Ecosystem, EnvForm, Match, Recipe, RecipeFile, Runs, Separator,
};

use crate::examples::builtin_files;

/// Every built-in recipe, and how many examples there are.
fn builtin() -> (Vec<Recipe>, usize) {
    let files: Vec<RecipeFile> = builtin_files()
        .iter()
        .map(|source| RecipeFile::parse(source).unwrap())
        .collect();
    let examples = files.iter().map(|file| file.examples.len()).sum();
    (
        files.into_iter().flat_map(|file| file.recipes).collect(),
        examples,
    )
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the one switch of this test, set by whoever changes a recipe"
)]
fn the_page_of_the_recipes_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes.md");
    let page = page();
    if std::env::var_os("STYXY_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let changed = page
        .lines()
        .zip(found.lines())
        .find(|(new, old)| new != old);
    assert!(
        page == found,
        "docs/recipes.md is not what the recipes say; run `STYXY_WRITE_DOCS=1 cargo test -p styxy-recipes`. \
         First difference: {changed:?}"
    );
}

#[test]
fn every_service_type_has_a_tool() {
    let (recipes, _) = builtin();
    let reached: BTreeSet<&str> = recipes
        .iter()
        .filter(|recipe| recipe.runs == Runs::Service)
        .map(|recipe| recipe.service_type.as_str())
        .collect();
    for spec in BUILTIN_SERVICE_TYPES {
        assert!(
            reached.contains(spec.name),
            "no recipe is of type `{}`",
            spec.name
        );
    }
}

#[test]
fn every_recipe_of_a_service_says_how_it_is_known() {
    let (recipes, _) = builtin();
    let silent: Vec<&str> = recipes
        .iter()
        .filter(|recipe| recipe.runs == Runs::Service && recipe.notes.is_empty())
        .map(|recipe| recipe.name.as_str())
        .collect();
    assert_eq!(silent, [] as [&str; 0], "recipes without notes");
}

fn page() -> String {
    let (recipes, examples) = builtin();
    let services = recipes.iter().filter(|recipe| recipe.runs == Runs::Service);
    let mut by_ecosystem: BTreeMap<&str, Vec<&Recipe>> = BTreeMap::new();
    for recipe in services.clone() {
        by_ecosystem
            .entry(ecosystem(recipe.ecosystem))
            .or_default()
            .push(recipe);
    }
    let mut page = format!(
        "# Tools that styxy knows\n\n\
         This page is made from the [built-in recipes](../recipes/builtin): {} services, proved by {examples} \
         examples. `STYXY_WRITE_DOCS=1 cargo test -p styxy-recipes` writes it anew. How to add a tool: \
         [adding-a-tool.md](adding-a-tool.md).\n\n\
         A tool that takes its leased port anyway is told nothing. Where an argument and a variable are given, \
         both are set. \"-\" means that only interception can move the port.\n",
        services.count()
    );
    for (ecosystem, mut recipes) in by_ecosystem {
        recipes.sort_by_key(|recipe| recipe.name.as_str().to_owned());
        write!(
            page,
            "\n## {ecosystem}\n\n| recipe | commands | type | default port | gets its port by | further ports |\n\
             |---|---|---|---|---|---|\n"
        )
        .unwrap();
        for recipe in recipes {
            writeln!(page, "{}", row(recipe)).unwrap();
        }
    }
    page += "\n## No servers\n\nThey are run as they are, and so are other subcommands of the tools above.\n\n";
    for recipe in recipes
        .iter()
        .filter(|recipe| recipe.runs == Runs::ShortLived)
    {
        writeln!(page, "* {}: {}", recipe.name.as_str(), commands(recipe)).unwrap();
    }
    page += "\n## Several services at once\n\nThey get neither arguments nor `PORT`; conflicts are met by interception.\n\n";
    for recipe in recipes
        .iter()
        .filter(|recipe| recipe.runs == Runs::SeveralServices)
    {
        writeln!(page, "* {}: {}", recipe.name.as_str(), commands(recipe)).unwrap();
    }
    page
}

fn ecosystem(ecosystem: Ecosystem) -> &'static str {
    match ecosystem {
        Ecosystem::Node => "Node.js",
        Ecosystem::Python => "Python",
        Ecosystem::Ruby => "Ruby",
        Ecosystem::Php => "PHP",
        Ecosystem::Go => "Go",
        Ecosystem::Rust => "Rust",
        Ecosystem::Jvm => "Java and the JVM",
        Ecosystem::Dotnet => ".NET",
        Ecosystem::Beam => "Elixir and Erlang",
        Ecosystem::System => "Other",
    }
}

fn row(recipe: &Recipe) -> String {
    let port = &recipe.port;
    let first = port
        .argv
        .first()
        .filter(|form| !form.value.contains("{host}"));
    let words: Vec<String> = first
        .into_iter()
        .chain(&port.also)
        .map(|form| code(&argument(form)))
        .chain(port.env.iter().map(|form| code(&variable(form))))
        .collect();
    let ways = if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    };
    let extra: Vec<String> = recipe
        .extra_ports
        .iter()
        .map(|extra| {
            let default = extra.default.map(|port| format!(" {port}"));
            format!("{}{}", extra.name.as_str(), default.unwrap_or_default())
        })
        .collect();
    let default = port.default.map(|port| port.to_string());
    format!(
        "| {} | {} | {} | {} | {ways} | {} |",
        recipe.name.as_str(),
        commands(recipe),
        recipe.service_type,
        default.unwrap_or_default(),
        extra.join(", ")
    )
}

fn commands(recipe: &Recipe) -> String {
    let commands: Vec<String> = recipe.matches.iter().map(command).collect();
    commands.join("; ")
}

/// What a match table is for, as people would say it.
fn command(table: &Match) -> String {
    let mut words = Vec::new();
    if table.program.len() == 1 || !table.program.is_empty() && table.program.len() <= 4 {
        words.push(table.program.join("/"));
    } else if !table.program.is_empty() {
        return table
            .program
            .iter()
            .map(|program| code(program))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if !table.module.is_empty() {
        words.push(format!("python -m {}", table.module.join("/")));
    }
    if !table.file.is_empty() {
        let files = table
            .file
            .iter()
            .map(|file| if file == "*" { "FILE" } else { file });
        words.push(files.collect::<Vec<_>>().join("/"));
    }
    let subcommands: Vec<&str> = table
        .subcommand
        .iter()
        .map(String::as_str)
        .filter(|words| !words.is_empty())
        .take(3)
        .collect();
    if !subcommands.is_empty() {
        let joined = subcommands.join("/");
        words.push(if table.subcommand.iter().any(String::is_empty) {
            format!("[{joined}]")
        } else {
            joined
        });
    }
    words.extend(table.flags.iter().cloned());
    let command = words.join(" ");
    let shown = if command.is_empty() {
        "any command".to_owned()
    } else {
        code(&command)
    };
    let mut needs: Vec<String> = table
        .dependency
        .iter()
        .take(3)
        .map(|name| code(name))
        .collect();
    let manifests: BTreeSet<&str> = table
        .manifest
        .iter()
        .map(|m| m.text.as_deref().unwrap_or(&m.file))
        .collect();
    needs.extend(manifests.into_iter().take(3).map(code));
    if table.dependency.len() > 3 || table.manifest.len() > 3 {
        needs.push("…".to_owned());
    }
    if needs.is_empty() {
        return shown;
    }
    format!("{shown} in a project with {}", needs.join(", "))
}

fn argument(form: &ArgForm) -> String {
    let value = form.value.replace("{port}", "N");
    match (&form.flag, form.separator) {
        (None, _) => value,
        (Some(flag), Separator::Word) => format!("{flag} {value}"),
        (Some(flag), Separator::Equals) => format!("{flag}={value}"),
        (Some(flag), Separator::Glued) => format!("{flag}{value}"),
    }
}

fn variable(form: &EnvForm) -> String {
    match form.value.as_str() {
        "{port}" => form.name.clone(),
        value => format!("{}={}", form.name, value.replace("{port}", "N")),
    }
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}
