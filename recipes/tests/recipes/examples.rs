//! Runs the examples of every built-in recipe file.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use styxy_protocol::Port;
use styxy_recipes::schema::{Example, ExampleOutcome, RecipeFile};
use styxy_recipes::{Catalog, Detection, Outcome, Ports, RecipeSource};

use crate::sandbox::{ROOT, Sandbox, argv};

/// Every built-in recipe file.
pub(crate) fn builtin_files() -> Vec<RecipeSource> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin");
    let mut sources: Vec<RecipeSource> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| RecipeSource {
            text: fs::read_to_string(&path).unwrap(),
            path,
        })
        .collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

#[test]
fn every_example_of_every_recipe_file_comes_true() {
    let catalog = Catalog::builtin();
    let mut report = String::new();
    let mut examples = 0;
    for source in builtin_files() {
        let file = RecipeFile::parse(&source).unwrap_or_else(|error| panic!("\n{error}\n"));
        let first = file.recipes[0].name.as_str();
        assert!(
            !file.examples.is_empty(),
            "{} has no example",
            source.path.display()
        );
        for example in &file.examples {
            examples += 1;
            let faults = check(&catalog, example, first);
            if !faults.is_empty() {
                let name = source.path.file_name().unwrap().to_string_lossy();
                write!(
                    report,
                    "\n{name}: `{}` {:?}\n",
                    example.run, example.scripts
                )
                .unwrap();
                for fault in faults {
                    writeln!(report, "    {fault}").unwrap();
                }
            }
        }
    }
    assert!(
        report.is_empty(),
        "of {examples} examples, these came out otherwise:\n{report}"
    );
    assert!(examples > 60, "only {examples} examples were found");
}

/// What came out otherwise than the example says.
fn check(catalog: &Catalog, example: &Example, first_recipe: &str) -> Vec<String> {
    let command = argv(&example.run);
    let found = Sandbox::of(example).detect(catalog, &command);
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: String, expected: String| {
        if found != expected {
            faults.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    expect(
        "outcome",
        format!("{:?}", found.outcome),
        format!("{:?}", outcome(example.outcome)),
    );
    let recipe = example.recipe.as_deref().unwrap_or(first_recipe);
    expect("recipe", found.recipe.clone(), recipe.to_owned());
    if let Some(expected) = &example.service_type {
        expect(
            "service type",
            found.service_type.to_string(),
            expected.to_string(),
        );
    }
    if let Some(expected) = &example.name {
        expect("name", found.service_name.clone(), expected.clone());
    }
    if let Some(expected) = &example.package {
        let dir = found
            .package_dir
            .as_ref()
            .map(|dir| dir.display().to_string());
        let expected = Path::new(ROOT)
            .join(expected)
            .components()
            .as_path()
            .display()
            .to_string();
        expect(
            "package",
            format!("{dir:?}"),
            format!("{:?}", Some(expected)),
        );
    }
    if let Some(expected) = example.default {
        expect(
            "default port",
            format!("{:?}", found.default_port),
            format!("{:?}", Some(expected)),
        );
    }
    let asked = found.asked_port.map(|asked| asked.port);
    expect(
        "asked port",
        format!("{asked:?}"),
        format!("{:?}", example.asked),
    );
    check_injection(example, &found, &mut expect);
    if !faults.is_empty() {
        faults.push(format!("because: {}", found.why.join("; ")));
    }
    faults
}

fn check_injection(
    example: &Example,
    found: &Detection,
    expect: &mut impl FnMut(&str, String, String),
) {
    let Some(port) = example.port else {
        return;
    };
    let extra: Vec<(&str, Port)> = example
        .extra
        .iter()
        .map(|(name, port)| (name.as_str(), *port))
        .collect();
    for (name, _) in &extra {
        let names: Vec<&str> = found.extra_ports.iter().map(|port| &*port.name).collect();
        expect(
            "further port",
            format!("{}", names.contains(name)),
            "true".to_owned(),
        );
    }
    let ports = Ports {
        main: port,
        extra: &extra,
    };
    let injection = found.inject(ports, &argv(&example.run));
    let gives = example.gives.as_deref().unwrap_or(&example.run);
    expect(
        "gives",
        format!("{:?}", injection.argv),
        format!("{:?}", argv(gives)),
    );
    let sets: Vec<String> = injection
        .env
        .iter()
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect();
    expect("sets", format!("{sets:?}"), format!("{:?}", example.sets));
}

fn outcome(expected: ExampleOutcome) -> Outcome {
    match expected {
        ExampleOutcome::Service => Outcome::Service,
        ExampleOutcome::Generic => Outcome::Generic,
        ExampleOutcome::ShortLived => Outcome::ShortLived,
        ExampleOutcome::BringsOwnRun => Outcome::BringsOwnRun,
        ExampleOutcome::KeepsItsPort => Outcome::KeepsItsPort,
    }
}
