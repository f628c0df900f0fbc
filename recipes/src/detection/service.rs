//! The plan for a known server: what the user asked for, and how the port gets in.

use styxy_protocol::Port;

use super::judge::{Judge, blank, nothing};
use super::wish::{Wish, conclude, wish_of};
use super::{AskedFrom, Detection, FurtherPort, Intercept, Outcome, ToolFacts};
use crate::asked::{InArguments, Place, in_arguments, in_flags};
use crate::invocation::{Origin, Trail};
use crate::matching;
use crate::options::Options;
use crate::plan::{Extra, Insert, Plan, Replace, Slot};
use crate::schema::{ArgForm, EnvForm, ExtraPort, InterceptRule, Match, Placement, Recipe, Repeat};
use crate::tool::Tool;

/// A tool that its recipe has recognised.
struct Known<'a> {
    recipe: &'a Recipe,
    tool: &'a Tool<'a>,
    options: Options<'a>,
    /// How many words its subcommand takes.
    subcommand: usize,
}

impl Judge<'_> {
    /// The verdict on a tool that is this service; its subcommand takes so many words.
    pub(super) fn service(
        &self,
        recipe: &Recipe,
        tool: &Tool<'_>,
        subcommand: usize,
        trail: Trail,
    ) -> Detection {
        let mut known = Known {
            recipe,
            tool,
            options: matching::sorted(recipe, tool),
            subcommand,
        };
        if recipe.port.place == Placement::First {
            // What stands behind the first operand is not the tool's own.
            let operand = known.options.positionals.get(subcommand).copied();
            let end = operand.unwrap_or(usize::MAX);
            known.options.flags.retain(|flag| flag.at < end);
        }
        let mut plan = nothing(self.command.argv.len());
        plan.slot = self.slot(&known, &trail);
        let wish = self.main_port(&known, &trail, &mut plan);
        let extra_ports = self.extra_ports(&known, &trail, &mut plan);
        let detection = Detection {
            outcome: Outcome::Service,
            service_type: recipe.service_type.clone(),
            default_port: recipe.port.default,
            is_by_project: recipe.matches.iter().all(Match::is_for_any_command),
            extra_ports,
            intercept: match recipe.intercept {
                InterceptRule::Preload => Intercept::Preload,
                InterceptRule::Off => Intercept::Off,
            },
            facts: ToolFacts::of(recipe),
            plan,
            ..blank(trail, recipe.name.as_str(), &known.service_name())
        };
        conclude(detection, &wish)
    }

    /// Plans the service's own port, gives the user's wish for it.
    fn main_port(&self, known: &Known<'_>, trail: &Trail, plan: &mut Plan) -> Wish {
        let rules = &known.recipe.port;
        let found = in_arguments(rules, known.tool.args, &known.options, known.subcommand);
        let mut env = rules.env.clone();
        let mut wish = Wish::None;
        // A positional word cannot be given a second time.
        let is_flag = rules.argv.first().is_some_and(|form| form.flag.is_some());
        let add = match &found {
            InArguments::At(place) => {
                wish = wish_of(place.number, place.origin.into());
                plan.replace.extend(replace(place));
                is_flag && place.origin == Origin::Script && rules.repeat == Repeat::LastWins
            }
            InArguments::Variable { name, otherwise } => {
                let reads = [EnvForm::named(name)];
                wish = match (self.wish_in_env(&reads, trail), otherwise) {
                    (Wish::None, Some(number)) => wish_of(*number, AskedFrom::Script),
                    (wish, _) => wish,
                };
                if EnvForm::try_from((*name).to_owned()).is_ok() && name.contains("PORT") {
                    let known = env.iter().any(|form| form.name == *name);
                    env.extend(reads.into_iter().filter(|_| !known));
                }
                is_flag && rules.repeat == Repeat::LastWins
            }
            InArguments::Unclear => {
                wish = Wish::Own;
                true
            }
            InArguments::Taken => false,
            InArguments::Absent => true,
        };
        if matches!(wish, Wish::None) {
            let mut asked = env.clone();
            asked.extend(rules.asked_env.iter().cloned());
            wish = self.wish_in_env(&asked, trail);
        }
        if matches!(wish, Wish::None) {
            let files: Vec<&str> = rules.dotenv.iter().map(String::as_str).collect();
            wish = self.wish_in_files(&files, &env, trail);
        }
        self.plan_env(&env, trail, plan);
        plan.own = wish
            .port()
            .or_else(|| rules.default.filter(|_| !rules.tell_default));
        if add && plan.replace.is_empty() {
            plan.insert = rules.argv.first().map(|form| Insert {
                forms: vec![form.clone()],
                with: rules.with.clone(),
                strict: rules.strict.clone(),
            });
        }
        known.same_port_elsewhere(plan);
        wish
    }

    /// Plans the further ports, gives what the user asked for.
    fn extra_ports(&self, known: &Known<'_>, trail: &Trail, plan: &mut Plan) -> Vec<FurtherPort> {
        let mut found = Vec::new();
        for extra in &known.recipe.extra_ports {
            if known.opens(extra) {
                let (port, planned) = self.extra_port(extra, known, trail);
                found.push(port);
                plan.extra.push(planned);
            }
        }
        found
    }

    fn extra_port(
        &self,
        extra: &ExtraPort,
        known: &Known<'_>,
        trail: &Trail,
    ) -> (FurtherPort, Extra) {
        let name = extra.name.as_str().to_owned();
        let mut draft = Plan::default();
        let mut form = extra.argv.first().cloned();
        let mut asked: Option<Port> = None;
        match in_flags(&extra.argv, known.tool.args, &known.options) {
            None => {}
            Some(InArguments::At(place)) => {
                asked = place.number.port();
                draft.replace.extend(replace(&place));
                let again =
                    place.origin == Origin::Script && known.recipe.port.repeat == Repeat::LastWins;
                form = form.filter(|_| again);
            }
            Some(_) => form = None,
        }
        if asked.is_none() {
            asked = self.wish_in_env(&extra.env, trail).port();
        }
        self.plan_env(&extra.env, trail, &mut draft);
        let can_be_told = !draft.replace.is_empty()
            || draft.env_reaches
            || form.is_some() && self.slot(known, trail).is_some();
        let planned = Extra {
            name: name.clone(),
            own: asked.or(extra.default),
            replace: draft.replace,
            form,
            env: draft.env,
        };
        let default = extra.default;
        (
            FurtherPort {
                name,
                asked,
                default,
                can_be_told,
            },
            planned,
        )
    }

    /// Where arguments for the tool can be added.
    fn slot(&self, known: &Known<'_>, trail: &Trail) -> Option<Slot> {
        if trail.tail.closed.is_some() {
            return None;
        }
        let end = Slot {
            at: self.command.argv.len(),
            dashes: trail.tail.dashes,
        };
        let before = match known.recipe.port.place {
            Placement::First => known.first_operand(),
            Placement::End => known.options.end,
        };
        match before.map(|at| known.tool.args[at].origin) {
            // Words in the middle cannot be brought past a package manager that wants its `--` first.
            Some(Origin::Argv(_))
                if known.recipe.port.place == Placement::First && end.dashes > 0 =>
            {
                None
            }
            Some(Origin::Argv(at)) => Some(Slot { at, dashes: 0 }),
            Some(Origin::Script) => None,
            None => Some(end),
        }
    }
}

impl Known<'_> {
    /// A recipe for any file names no service: two files of one package are two services.
    fn service_name(&self) -> String {
        let mut tables = self.recipe.matches.iter();
        if tables.any(Match::any_file) {
            self.tool.service_name()
        } else {
            self.recipe.name.as_str().to_owned()
        }
    }

    /// The first word after the subcommand.
    fn first_operand(&self) -> Option<usize> {
        let at = match self.subcommand.checked_sub(1) {
            Some(last) => self.options.positionals.get(last)? + 1,
            None => 0,
        };
        (at < self.tool.args.len()).then_some(at)
    }

    fn opens(&self, extra: &ExtraPort) -> bool {
        let given = |flag: &String| self.options.flags.iter().any(|given| given.name == flag);
        extra.when.is_empty() || extra.when.iter().any(given)
    }

    /// Plans the further arguments that carry the service's own port.
    fn same_port_elsewhere(&self, plan: &mut Plan) {
        for form in &self.recipe.port.also {
            let found = in_flags(std::slice::from_ref(form), self.tool.args, &self.options);
            match (found, &mut plan.insert) {
                (Some(InArguments::At(place)), _) => plan.replace.extend(replace(&place)),
                (None, Some(insert)) => insert.forms.push(ArgForm::clone(form)),
                _ => {}
            }
        }
    }
}

fn replace(place: &Place<'_>) -> Option<Replace> {
    match place.origin {
        Origin::Argv(at) => Some(Replace {
            at,
            before: place.before.to_owned(),
            after: place.after.to_owned(),
            is_argument: true,
        }),
        Origin::Script => None,
    }
}
