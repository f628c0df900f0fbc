//! Recipes of the user: they win, and broken ones are reported at their place.

use styxy_protocol::Port;
use styxy_recipes::{Catalog, Outcome, RecipeSource};

use crate::examples::builtin_files;
use crate::sandbox::{Sandbox, argv};

fn source(path: &str, text: &str) -> RecipeSource {
    RecipeSource {
        path: path.into(),
        text: text.to_owned(),
    }
}

fn errors(texts: &[&str]) -> String {
    let sources = texts
        .iter()
        .zip(["a.toml", "b.toml"])
        .map(|(text, path)| source(path, text))
        .collect();
    let (_, errors) = Catalog::builtin().with_user_recipes(sources);
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

const GOOD: &str = r#"[[recipe]]
name = "mine"
ecosystem = "system"
service_type = "docs"
[[recipe.match]]
program = ["mine"]
[recipe.port]
default = 4100
argv = ["-l :{port}"]
env = ["MINE_PORT", "MINE_ADDR=127.0.0.1:{port}"]
"#;

#[test]
fn a_recipe_of_the_user_is_in_force() {
    let (catalog, errors) = Catalog::builtin().with_user_recipes(vec![source("a.toml", GOOD)]);
    assert_eq!(errors, []);
    let command = argv("mine -l 0.0.0.0:4200");
    let found = Sandbox::default().detect(&catalog, &command);
    assert_eq!(
        (found.outcome, found.recipe.as_str()),
        (Outcome::Service, "mine")
    );
    assert_eq!(found.asked_port.unwrap().port.get(), 4200);
    let injection = found.inject(Port::new(4300).unwrap(), &command);
    assert_eq!(injection.argv, argv("mine -l 0.0.0.0:4300"));
    let env: Vec<_> = injection
        .env
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        env,
        [("MINE_PORT", "4300"), ("MINE_ADDR", "127.0.0.1:4300")]
    );
}

#[test]
fn a_recipe_of_the_user_replaces_a_built_in_one_of_its_name_and_beats_equal_ones() {
    for name in ["storybook", "mine"] {
        let text = GOOD.replace("\"mine\"", &format!("{name:?}")).replace(
            "program = [\"mine\"]",
            "program = [\"storybook\"]\nsubcommand = [\"dev\"]",
        );
        let text = text.replace(
            &format!("program = [{name:?}]"),
            "program = [\"storybook\"]\nsubcommand = [\"dev\"]",
        );
        let (catalog, errors) = Catalog::builtin().with_user_recipes(vec![source("a.toml", &text)]);
        assert_eq!(errors, []);
        let found = Sandbox::default().detect(&catalog, &argv("storybook dev"));
        assert_eq!(found.default_port.unwrap().get(), 4100, "{name}");
        assert_eq!(
            catalog
                .names()
                .iter()
                .filter(|known| *known == name)
                .count(),
            1
        );
    }
}

#[test]
fn a_recipe_that_goes_by_a_dependency_alone_is_for_commands_that_say_nothing() {
    let text = GOOD.replace("program = [\"mine\"]", "dependency = [\"my-framework\"]");
    let (catalog, errors) = Catalog::builtin().with_user_recipes(vec![source("a.toml", &text)]);
    assert_eq!(errors, []);
    let mut sandbox = Sandbox::with_scripts(&[("start", "./start.sh"), ("web", "vite")]);
    let package = sandbox.packages.values_mut().next().unwrap();
    package.dependencies.insert("my-framework".to_owned());
    assert_eq!(sandbox.detect(&catalog, &argv("npm start")).recipe, "mine");
    assert_eq!(
        sandbox.detect(&catalog, &argv("npm run web")).recipe,
        "vite"
    );
}

#[test]
fn the_built_in_files_pass_the_checks_for_files_of_the_user() {
    let (_, errors) = Catalog::builtin().with_user_recipes(builtin_files());
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "\n{}", texts.join("\n"));
}

#[test]
fn a_broken_file_is_left_out_and_the_others_stay() {
    let sources = vec![
        source("broken.toml", "[[recipe]\n"),
        source("good.toml", GOOD),
    ];
    let (catalog, errors) = Catalog::builtin().with_user_recipes(sources);
    assert_eq!(errors.len(), 1);
    assert_eq!(
        Sandbox::default().detect(&catalog, &argv("mine")).recipe,
        "mine"
    );
}

#[test]
fn faults_are_shown_at_their_place() {
    insta::assert_snapshot!(errors(&[&GOOD.replace("default = 4100", "\tdefalt = 4100")]), @r#"
    a.toml:8:2: unknown field `defalt`, expected one of `default`, `tell_default`, `argv`, `env`, `asked_env`, `dotenv`, `position`, `place`, `repeat`, `also`, `with`, `strict`
       defalt = 4100
       ^
    "#);
    insta::assert_snapshot!(errors(&[&GOOD.replace("\"docs\"", "\"doc\"")]), @r#"
    a.toml:4:16: unknown service type `doc`; known types: dev, api, database, auth, functions, ui, hub, storybook, test, proxy, docs, monitoring, build, infrastructure, ai, messaging, coordination
      service_type = "doc"
                     ^
    "#);
    insta::assert_snapshot!(errors(&[&GOOD.replace("4100", "70000")]), @r#"
    a.toml:8:11: invalid value: integer `70000`, expected a nonzero u16
      default = 70000
                ^
    "#);
    insta::assert_snapshot!(errors(&[&GOOD.replace("4100", "0")]), @r#"
    a.toml:8:11: invalid value: integer `0`, expected a nonzero u16
      default = 0
                ^
    "#);
    insta::assert_snapshot!(errors(&[&GOOD.replace("program = [\"mine\"]", "subcommand = [\"dev\"]")]), @r#"
    a.toml:5:1: empty match: give at least one of `program`, `module`, `file`, `dependency`, `manifest`, `script`
      [[recipe.match]]
      ^
    "#);
    insta::assert_snapshot!(errors(&[&GOOD.replace("-l :{port}", "-l {port};reboot")]), @r#"
    a.toml:9:8: "{port};reboot" has characters that do not belong into an address
      argv = ["-l {port};reboot"]
             ^
    "#);
    insta::assert_snapshot!(errors(&[&GOOD.replace("MINE_PORT", "LD_PRELOAD")]), @r#"
    a.toml:10:7: variable `LD_PRELOAD` decides what programs load or run; a recipe may not set it
      env = ["LD_PRELOAD", "MINE_ADDR=127.0.0.1:{port}"]
            ^
    "#);
    insta::assert_snapshot!(errors(&["[[recipe]\nname = 3"]), @r#"
    a.toml:1:10: unclosed array table, expected `]`
      [[recipe]
               ^
    "#);
}

#[test]
fn two_files_that_contradict_each_other_are_both_named() {
    insta::assert_snapshot!(errors(&[GOOD, GOOD]), @r#"
    b.toml:2:8: recipe `mine` is there already: a.toml
      name = "mine"
             ^
    "#);
    insta::assert_snapshot!(errors(&[GOOD, &GOOD.replacen("\"mine\"", "\"other\"", 1)]), @r#"
    b.toml:5:1: recipe `other` and recipe `mine` of a.toml match the same commands equally well; say more in one of them or set `priority`
      [[recipe.match]]
      ^
    "#);
    let decided = format!(
        "{}\n",
        GOOD.replacen("\"mine\"", "\"other\"\npriority = 1", 1)
    );
    assert_eq!(errors(&[GOOD, &decided]), "");
}
