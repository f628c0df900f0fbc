//! Which recipe fits a tool. The table that says most wins; see [`crate::schema`] for the order.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::Package;
use crate::catalog::{Candidate, Catalog};
use crate::options::Options;
use crate::schema::{Ecosystem, Manifest, Match, Recipe, Runs, Separator};
use crate::tool::Tool;

/// What the recipes say of a tool.
#[derive(Debug)]
pub(crate) enum Matched<'a> {
    /// It is this service; the subcommand takes so many words.
    Service(Cow<'a, Recipe>, usize),
    /// It is no service, for this reason.
    ShortLived(Cow<'a, Recipe>, String),
    /// Several services at once.
    Several(Cow<'a, Recipe>),
    /// No recipe fits.
    Nothing,
}

/// What a match table may ask about beside the tool itself.
pub(crate) struct Surroundings<'a> {
    /// Reads the nearest package.
    pub(crate) package: &'a dyn Fn() -> Option<Package>,
    /// Whether a file of the project is there and holds the text.
    pub(crate) manifest: &'a dyn Fn(&Manifest) -> bool,
    /// Text of the script that is run.
    pub(crate) script: Option<&'a str>,
    /// The script's name says that it builds or checks something.
    pub(crate) is_chore: bool,
}

/// Finds the recipe for `tool`.
pub(crate) fn best<'a>(
    catalog: &'a Catalog,
    tool: &Tool<'_>,
    around: &Surroundings<'_>,
) -> Matched<'a> {
    let matched = among(catalog.candidates(&tool.triggers()), tool, around);
    if !matches!(matched, Matched::Nothing) {
        return matched;
    }
    // Recipes that go by the project alone are for commands that say nothing themselves.
    let mut words = vec!["*".to_owned()];
    if let Some(package) = (around.package)() {
        words.extend(catalog.dependency_words(|name| package.dependencies.contains(name)));
    }
    among(catalog.candidates(&words), tool, around)
}

fn among<'a>(
    mut candidates: Vec<Candidate<'a>>,
    tool: &Tool<'_>,
    around: &Surroundings<'_>,
) -> Matched<'a> {
    // `bin/serve` of a project is its own, whatever a package of that name does.
    candidates.retain(|Candidate { recipe, from_user }| {
        *from_user || !tool.in_project_bin || recipe.ecosystem != Ecosystem::Node
    });
    let package = OnceCell::new();
    let mut tables: Vec<((u32, i8, bool), usize, &Match)> = Vec::new();
    for (position, candidate) in candidates.iter().enumerate() {
        let Candidate { recipe, from_user } = candidate;
        let rank = |table: &Match| (table.specificity(), recipe.priority, *from_user);
        let ranked = recipe
            .matches
            .iter()
            .map(|table| (rank(table), position, table));
        tables.extend(ranked);
    }
    // What says most is tried first, so that the project's files are asked for only where nothing else decides.
    tables.sort_by(|a, b| (b.0, a.1).cmp(&(a.0, b.1)));
    let best = tables.iter().find_map(|(_, position, table)| {
        let options = sorted(&candidates[*position].recipe, tool);
        let facts = Facts {
            tool,
            options: &options,
            around,
            package: &package,
        };
        facts.fits(table).map(|words| (*position, words))
    });
    let Some((position, words)) = best else {
        return no_server(candidates, tool, around, &package);
    };
    let Some(Candidate { recipe, .. }) = candidates.into_iter().nth(position) else {
        return Matched::Nothing;
    };
    let reason = match recipe.runs {
        Runs::ShortLived => Some(format!("`{}` is no server", tool.name())),
        Runs::Service | Runs::SeveralServices => short_lived(&recipe, tool),
    };
    match (reason, recipe.runs) {
        (Some(why), _) => Matched::ShortLived(recipe, why),
        (None, Runs::SeveralServices) => Matched::Several(recipe),
        (None, _) => Matched::Service(recipe, words),
    }
}

/// When no table fits: whether a recipe for the same program knows the subcommand as short-lived.
fn no_server<'a>(
    candidates: Vec<Candidate<'a>>,
    tool: &Tool<'_>,
    around: &Surroundings<'_>,
    package: &OnceCell<Option<Package>>,
) -> Matched<'a> {
    for Candidate { recipe, .. } in candidates {
        let options = sorted(&recipe, tool);
        let facts = Facts {
            tool,
            options: &options,
            around,
            package,
        };
        if !recipe.matches.iter().any(|table| facts.same_program(table)) {
            continue;
        }
        let subcommand = options
            .positionals
            .first()
            .map(|&at| tool.args[at].as_str());
        let any_other = recipe
            .short_lived
            .subcommands
            .iter()
            .any(|word| word == "*");
        let why = short_lived(&recipe, tool).or_else(|| {
            any_other.then(|| match subcommand {
                Some(subcommand) => format!("`{} {subcommand}` is no server", tool.name()),
                None => format!("`{}` alone is no server", tool.name()),
            })
        });
        if let Some(why) = why {
            return Matched::ShortLived(recipe, why);
        }
    }
    Matched::Nothing
}

/// Why a use of the recipe's program is no service, if it is none.
fn short_lived(recipe: &Recipe, tool: &Tool<'_>) -> Option<String> {
    let options = sorted(recipe, tool);
    let own = recipe.short_lived.flags.iter().map(String::as_str);
    let mut flags = ["--help", "--version"].into_iter().chain(own);
    if let Some(flag) = flags.find(|flag| has_flag(&options, flag)) {
        return Some(format!("`{}` is no server with `{flag}`", tool.name()));
    }
    let mut subcommands = recipe.short_lived.subcommands.iter();
    let listed = subcommands.find(|words| has_subcommand(&options, tool, words))?;
    Some(format!("`{} {listed}` is no server", tool.name()))
}

/// Whether a flag is given; `--only=auth` asks for its value too.
fn has_flag(options: &Options<'_>, flag: &str) -> bool {
    let (name, value) = match flag.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (flag, None),
    };
    options.flags.iter().any(|given| {
        let given_value = given.value.map(|(_, _, value)| value);
        given.name == name && value.is_none_or(|value| given_value == Some(value))
    })
}

/// Whether the command begins with these words; `""` is a command without any.
fn has_subcommand(options: &Options<'_>, tool: &Tool<'_>, words: &str) -> bool {
    if words.is_empty() {
        return options.positionals.is_empty();
    }
    let mut given = options.positionals.iter().map(|&at| tool.args[at].as_str());
    words.split(' ').all(|word| given.next() == Some(word))
}

/// The tool's arguments as the recipe reads them.
pub(crate) fn sorted<'a>(recipe: &Recipe, tool: &Tool<'a>) -> Options<'a> {
    Options::all(tool.args, |flag| {
        let extra = recipe.extra_ports.iter().flat_map(|extra| &extra.argv);
        let mut forms = recipe
            .port
            .argv
            .iter()
            .chain(&recipe.port.also)
            .chain(extra);
        let is_port = forms
            .any(|form| form.separator == Separator::Word && form.flag.as_deref() == Some(flag));
        is_port || recipe.value_flags.iter().any(|known| known == flag)
    })
}

struct Facts<'a> {
    tool: &'a Tool<'a>,
    options: &'a Options<'a>,
    around: &'a Surroundings<'a>,
    package: &'a OnceCell<Option<Package>>,
}

impl Facts<'_> {
    /// How many words the subcommand takes, if the table fits.
    fn fits(&self, table: &Match) -> Option<usize> {
        let has_flag = |flag: &String| has_flag(self.options, flag);
        let fits = self.same_program(table)
            && !(self.around.is_chore && table.goes_by_the_project())
            && table.flags.iter().all(has_flag)
            && !table.without_flags.iter().any(has_flag)
            && (table.script.is_empty() || table.script.iter().any(|text| self.script_has(text)));
        let words = match table.subcommand.as_slice() {
            _ if !fits => None,
            [] => Some(0),
            subcommands => subcommands
                .iter()
                .filter(|words| has_subcommand(self.options, self.tool, words))
                .map(|words| words.split(' ').filter(|word| !word.is_empty()).count())
                .max(),
        };
        words.filter(|_| self.project_fits(table))
    }

    /// The conditions for which files have to be read.
    fn project_fits(&self, table: &Match) -> bool {
        (table.dependency.is_empty() || table.dependency.iter().any(|name| self.depends_on(name)))
            && (table.manifest.is_empty() || table.manifest.iter().any(self.around.manifest))
    }

    fn same_program(&self, table: &Match) -> bool {
        let one_of = |list: &[String], word: Option<&str>| {
            list.is_empty()
                || word.is_some_and(|word| list.iter().any(|known| known == word || known == "*"))
        };
        let has_ending = |word: &str| {
            let mut endings = table.file.iter().filter_map(|file| file.strip_prefix('*'));
            endings.any(|ending| !ending.is_empty() && word.ends_with(ending))
        };
        one_of(&table.program, Some(self.tool.program))
            && one_of(&table.module, self.tool.module)
            && (one_of(&table.file, self.tool.file) || self.tool.file.is_some_and(has_ending))
    }

    fn script_has(&self, text: &str) -> bool {
        self.around
            .script
            .is_some_and(|script| script.contains(text))
    }

    fn depends_on(&self, name: &str) -> bool {
        self.package
            .get_or_init(|| (self.around.package)())
            .as_ref()
            .is_some_and(|package| package.dependencies.contains(name))
    }
}
