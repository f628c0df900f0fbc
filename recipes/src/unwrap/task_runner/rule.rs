//! What the files of `make`, `just`, `task` and `composer` say about a target, as far as they are plain.

use serde_json::Value;

/// What a target runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) text: String,
}

impl Rule {
    /// The rule of this target, else the first one.
    pub(super) fn of_makefile(text: &str, target: Option<&str>) -> Option<Self> {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((head, after)) = line.split_once(':') else {
                continue;
            };
            let is_rule = !line.starts_with(['\t', ' ', '#', '.'])
                && !after.starts_with([':', '='])
                && !head.contains(['=', '$', '%']);
            let names: Vec<&str> = head.split_whitespace().collect();
            let wanted = target.or(names.first().copied());
            if !is_rule || !wanted.is_some_and(|wanted| names.contains(&wanted)) {
                continue;
            }
            let mut body = Vec::new();
            if let Some((_, command)) = after.split_once(';') {
                body.push(command.to_owned());
            }
            while let Some(line) =
                lines.next_if(|line| line.starts_with('\t') || line.trim().is_empty())
            {
                body.push(line.to_owned());
            }
            if body.iter().all(|line| line.trim().is_empty()) {
                // `dev: web` says only what comes before.
                continue;
            }
            let text = joined(&body)?;
            let text = text.replace("$$", "\u{0}");
            if text.contains('$') {
                return None;
            }
            return Some(Self {
                name: wanted?.to_owned(),
                text: text.replace('\u{0}', "$"),
            });
        }
        None
    }

    pub(super) fn of_justfile(text: &str, target: Option<&str>) -> Option<Self> {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((head, _)) = line.split_once(':') else {
                continue;
            };
            let head = head.trim_start_matches('@');
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let mut words = head.split_whitespace();
            let name = words.next().filter(|name| name.chars().all(is_name));
            let is_assignment = line.contains(":=") || line.starts_with([' ', '\t', '#']);
            let Some(name) = name.filter(|_| !is_assignment) else {
                continue;
            };
            if target.is_some_and(|target| target != name) {
                continue;
            }
            let mut body = Vec::new();
            let in_body = |line: &&str| line.starts_with([' ', '\t']) || line.trim().is_empty();
            while let Some(line) = lines.next_if(in_body) {
                body.push(line.to_owned());
            }
            let text = joined(&body)?;
            let simple = words.next().is_none() && !text.contains("{{") && !text.starts_with("#!");
            return simple.then(|| Self {
                name: name.to_owned(),
                text,
            });
        }
        None
    }

    /// Only the plainest form of YAML: `tasks:`, the name, and `cmd:`, `cmds:` or the command itself.
    pub(super) fn of_taskfile(text: &str, target: &str) -> Option<Self> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mut lines = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
            .skip_while(|line| line.trim_end() != "tasks:")
            .skip(1)
            .take_while(|line| indent(line) > 0)
            .peekable();
        let level = indent(lines.peek()?);
        let head = lines.find(|line| {
            indent(line) == level
                && line
                    .trim_start()
                    .split_once(':')
                    .is_some_and(|(name, _)| name == target)
        })?;
        let mut commands = Vec::new();
        let value = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
        let (_, inline) = head.trim_start().split_once(':')?;
        if !inline.trim().is_empty() {
            commands.push(value(inline));
        }
        for line in lines.take_while(|line| indent(line) > level) {
            let line = line.trim();
            if let Some(item) = line.strip_prefix("- ") {
                // `- task: other`, `- cmd: x`
                let command = item.strip_prefix("cmd:").unwrap_or(item);
                let word = command.split(' ').next().unwrap_or_default();
                if word.ends_with(':') {
                    return None;
                }
                commands.push(value(command));
            } else if let Some(command) = line.strip_prefix("cmd:") {
                commands.push(value(command));
            } else if !(line == "cmds:"
                || ["desc:", "silent:", "summary:"]
                    .iter()
                    .any(|key| line.starts_with(key)))
            {
                return None;
            }
        }
        let text = commands.join(" && ");
        let plain =
            !text.is_empty() && !text.contains("{{") && !text.starts_with(['|', '>', '[', '{']);
        plain.then(|| Self {
            name: target.to_owned(),
            text,
        })
    }
}

/// The lines of a rule as one text for a shell, each of which is a shell of its own.
fn joined(body: &[String]) -> Option<String> {
    let text = body.join("\n").replace("\\\n", " ");
    let commands: Vec<&str> = text
        .lines()
        .map(|line| line.trim().trim_start_matches(['@', '-', '+']).trim_start())
        .filter(|line| !line.is_empty() && (!line.starts_with('#') || line.starts_with("#!")))
        .collect();
    // `cd` alone changes nothing for the next line.
    let (last, before) = commands.split_last()?;
    let changes = before
        .iter()
        .any(|line| line.starts_with("cd ") && !line.contains("&&"));
    (!changes).then(|| {
        let mut text = before.join(" && ");
        if !text.is_empty() {
            text.push_str(" && ");
        }
        text + last
    })
}

/// The commands of a script, as far as they are commands of a shell.
pub(super) fn composer_script(text: &str, name: &str) -> Option<Vec<String>> {
    let file: Value = serde_json::from_str(text).ok()?;
    let script = file.get("scripts")?.get(name)?;
    let one = std::slice::from_ref(script);
    let lines = script.as_array().map_or(one, Vec::as_slice);
    let mut commands = Vec::new();
    for line in lines {
        let line = line.as_str()?;
        match line.strip_prefix('@') {
            Some(rest) if rest.starts_with("php ") => commands.push(rest.to_owned()),
            Some(rest) if rest.starts_with("composer ") => commands.push(rest.to_owned()),
            // Another script, or a variable.
            Some(_) => return None,
            // A method of PHP.
            None if line.contains("::") && !line.contains(' ') => {}
            None => commands.push(line.to_owned()),
        }
    }
    (!commands.is_empty()).then_some(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makefiles_are_read_as_far_as_they_are_plain() {
        let text = "PORT ?= 3000\n.PHONY: dev api\n\nall: dev\n\ndev: install ## web\n\t@echo x\n\tvite \\\n\t  --host\n\n\
                    api:\n\tuvicorn a:b --port $(PORT)\nshell: ; X=$$HOME vite\nsub:\n\tcd web\n\tvite\n";
        for (target, expected) in [
            (Some("dev"), Some("echo x && vite  \t  --host")),
            (Some("api"), None),
            (Some("shell"), Some("X=$HOME vite")),
            (Some("sub"), None),
            (Some("none"), None),
        ] {
            let found = Rule::of_makefile(text, target).map(|rule| rule.text);
            assert_eq!(found.as_deref(), expected, "{target:?}");
        }
        let first = Rule::of_makefile("x = y\nweb:\n\tvite\nb:\n\ta\n", None).unwrap();
        assert_eq!((first.name.as_str(), first.text.as_str()), ("web", "vite"));
    }

    #[test]
    fn justfiles_are_read_as_far_as_they_are_plain() {
        let text = "port := \"3000\"\n# x: y\n@dev: build\n    npm run dev\n\nserve port:\n    vite --port {{port}}\n\
                    one arg:\n  a\npy:\n  #!/usr/bin/env python\n  x\n";
        for (target, expected) in [
            (Some("dev"), Some("npm run dev")),
            (None, Some("npm run dev")),
            (Some("serve"), None),
            (Some("one"), None),
            (Some("py"), None),
        ] {
            let found = Rule::of_justfile(text, target).map(|rule| rule.text);
            assert_eq!(found.as_deref(), expected, "{target:?}");
        }
    }

    #[test]
    fn taskfiles_are_read_as_far_as_they_are_plain() {
        let text = "version: '3'\nvars:\n  dev: x\ntasks:\n  dev: vite\n  api:\n    desc: x\n    cmds:\n      - go build\n      - \"go run .\"\n  \
                    deep:\n    deps: [api]\n    cmd: x\n  var:\n    cmd: x {{.PORT}}\nother:\n  z: q\n";
        for (target, expected) in [
            ("dev", Some("vite")),
            ("api", Some("go build && go run .")),
            ("deep", None),
            ("var", None),
            ("z", None),
        ] {
            let found = Rule::of_taskfile(text, target).map(|rule| rule.text);
            assert_eq!(found.as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn composers_scripts_are_shells_and_more() {
        let text = r#"{"scripts":{"a":"php artisan serve","b":["Composer\\Config::disableProcessTimeout","@php artisan serve"],"c":["@a"],"d":1}}"#;
        for (name, expected) in [
            ("a", Some("php artisan serve")),
            ("b", Some("php artisan serve")),
            ("c", None),
            ("d", None),
        ] {
            let found = composer_script(text, name).map(|commands| commands.join(" && "));
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
