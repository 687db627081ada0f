//! The commands: what is asked, what is waited for, what is printed.

mod credentials;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use standpipe_extensions::osb::event::Cost;
use tokio::time::{Instant, sleep};

use super::super::admin_client::{append_query, joined};
use super::client::{Client, Credential, Failure, checked};
use super::doing::Doing;
use super::own::Own;
use super::place::{Asked, Place};
use super::{Command, Environment, Flags, Waiting, browser, print};

/// Between two questions how an operation goes. Brokers are asked less often, as they wish.
const POLL: Duration = Duration::from_secs(1);

/// One command on its way.
pub(super) struct Session<'a> {
    client: Client,
    own: Option<Own>,
    place: Place,
    json: bool,
    out: &'a mut dyn Write,
}

/// An add-on, as `/addons` shows it.
#[derive(Deserialize)]
struct Addon {
    name: String,
    plan: String,
    channel: String,
    state: String,
    bindable: bool,
    dashboard_url: Option<String>,
    costs: Vec<Cost>,
}

/// A service of the catalog.
#[derive(Deserialize)]
struct Service {
    name: String,
    documentation_url: Option<String>,
    plans: Vec<Plan>,
}

#[derive(Deserialize)]
struct Plan {
    name: String,
}

type Done<T = ()> = Result<T, String>;

impl<'a> Session<'a> {
    /// Finds out where to ask, as whom and for which app.
    pub(super) fn new(flags: &Flags, out: &'a mut dyn Write) -> Done<Self> {
        let folder = std::env::current_dir().map_err(|error| error.to_string())?;
        let place = Place::of(flags, &folder)?;
        let credential = Credential::from_environment()?;
        let (own, client) = match &place.asked {
            Asked::Standpipe(url) => {
                (None, Client::new(&checked(url, "standpipe", &credential, flags)?, &credential)?)
            }
            Asked::Broker(url) => {
                let url = checked(url, "broker", &credential, flags)?;
                let (own, client) = Own::start(&place.folder, &url, &credential)?;
                (Some(own), client)
            }
        };
        Ok(Self { client, own, place, json: flags.json, out })
    }

    /// Ends what was started for the command.
    pub(super) fn end(self) {
        if let Some(own) = self.own {
            own.stop();
        }
    }

    /// Carries out a command.
    pub(super) async fn run(&mut self, command: Command) -> Done {
        let done = self.carry_out(command).await;
        done.map_err(|failure| match &self.own {
            Some(own) => own.explain(failure),
            None => failure,
        })
    }

    async fn carry_out(&mut self, command: Command) -> Done {
        match command {
            Command::List { added: false } => self.list().await,
            Command::List { added: true } => self.added().await,
            Command::Add { name, plan, parameters, waiting, environment } => {
                let body = wish(plan.as_deref(), parameters.as_deref())?;
                self.add(&name, plan.as_deref(), body, &waiting, &environment).await
            }
            Command::Update { name, plan, parameters, waiting, environment } => {
                let body = wish(plan.as_deref(), parameters.as_deref())?;
                self.update(&name, body, &waiting, &environment).await
            }
            Command::Remove { name, waiting, env_file } => self.remove(&name, &waiting, env_file).await,
            Command::Dashboard { name, no_browser } => self.dashboard(&name, no_browser).await,
            Command::Docs { name, plan, no_browser } => self.docs(&name, plan.as_deref(), no_browser).await,
        }
    }

    async fn list(&mut self) -> Done {
        let (_, answer) = self.client.ask(Method::GET, "/addons/catalog", None).await?;
        if self.json {
            return self.print_json(&answer);
        }
        let (services, missing): (Vec<Service>, Vec<String>) =
            (part(&answer, "services")?, part(&answer, "missing")?);
        if services.is_empty() && !missing.is_empty() {
            return Err(format!("nobody has answered what can be added: {}", missing.join(", ")));
        }
        let rows: Vec<[&str; 2]> = services
            .iter()
            .flat_map(|service| service.plans.iter().map(|plan| [service.name.as_str(), plan.name.as_str()]))
            .collect();
        print::table(self.out, ["Name", "Plan"], &rows).map_err(text)?;
        missing
            .iter()
            .try_for_each(|broker| self.say(&format!("{broker} has not answered: its services are missing")))
    }

    async fn added(&mut self) -> Done {
        let mut target = "/addons".to_owned();
        let channel = self.place.channel().ok().map(|channel| ("channel", channel));
        append_query(&mut target, [("app", self.place.app()?)].into_iter().chain(channel));
        let (_, answer) = self.client.ask(Method::GET, &target, None).await?;
        if self.json {
            return self.print_json(&answer);
        }
        let addons: Vec<Addon> = part(&answer, "addons")?;
        let row = |addon: &'_ Addon| {
            [addon.name.clone(), addon.plan.clone(), addon.channel.clone(), addon.state.clone()]
        };
        let rows: Vec<[String; 4]> = addons.iter().map(row).collect();
        let rows: Vec<[&str; 4]> = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect();
        print::table(self.out, ["Name", "Plan", "Channel", "State"], &rows).map_err(text)
    }

    async fn add(
        &mut self,
        name: &str,
        plan: Option<&str>,
        mut body: Map<String, Value>,
        waiting: &Waiting,
        environment: &Environment,
    ) -> Done {
        let whose = self.whose()?;
        let service = self.service(name, plan).await?;
        let plan = match service.plans.as_slice() {
            [only] => only.name.clone(),
            plans => {
                let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
                return Err(format!(
                    "{name} has more than one plan: {}; choose one with --plan",
                    names.join(", ")
                ));
            }
        };
        let (app, channel) = (self.place.app()?, self.place.channel()?);
        let named = [("name", name), ("plan", &plan), ("app", app), ("channel", channel)];
        body.extend(named.map(|(key, value)| (key.to_owned(), Value::from(value))));
        let doing = Doing::new(format!("Adding {name}:{plan} to {whose}"));
        let asked = self.client.ask(Method::POST, "/addons", Some(&Value::from(body))).await;
        let (status, answer) = doing.failing(asked)?;
        let was_there = status == StatusCode::OK;
        let Some(answer) = self.finish(&doing, name, answer, waiting).await? else { return Ok(()) };
        let addon: Addon = read(answer.clone())?;
        match (self.json, was_there) {
            (true, _) => self.print_json(&answer)?,
            (false, true) => self.say(&format!("{name}:{plan} is already added to {whose}"))?,
            (false, false) => {
                self.say(&doing.done())?;
                if service.documentation_url.is_some_and(|page| !page.is_empty()) {
                    let hint =
                        format!("Use `standpipe addons docs {name} --plan {plan}` to view the documentation");
                    self.say(&hint)?;
                }
            }
        }
        self.give(&addon, environment).await
    }

    async fn update(
        &mut self,
        name: &str,
        body: Map<String, Value>,
        waiting: &Waiting,
        environment: &Environment,
    ) -> Done {
        let doing = Doing::new(format!("Updating {name} for {}", self.whose()?));
        let asked = self.client.ask(Method::PATCH, &self.path(name)?, Some(&Value::from(body))).await;
        let (_, answer) = doing.failing(asked)?;
        let Some(answer) = self.finish(&doing, name, answer, waiting).await? else { return Ok(()) };
        let addon: Addon = read(answer.clone())?;
        if self.json {
            self.print_json(&answer)?;
        } else {
            self.say(&doing.done())?;
            if let Some(price) = print::price(&addon.costs) {
                self.say(&format!("You are now being billed for this addon at {price}"))?;
            }
        }
        self.give(&addon, environment).await
    }

    async fn remove(&mut self, name: &str, waiting: &Waiting, env_file: Option<PathBuf>) -> Done {
        let (path, whose) = (self.path(name)?, self.whose()?);
        let file = env_file.or_else(|| self.place.env_file.clone());
        let addon: Addon = match self.client.ask(Method::GET, &path, None).await {
            Ok((_, answer)) => read(answer)?,
            Err(Failure::Refused { status: StatusCode::NOT_FOUND, text }) if is_not_added(&text, name) => {
                return self.leftover(name, file, text);
            }
            Err(failure) => return Err(failure.into()),
        };
        let doing = Doing::new(format!("Removing {name}:{} from {whose}", addon.plan));
        let (_, answer) = doing.failing(self.client.ask(Method::DELETE, &path, None).await)?;
        let finished = self.finish(&doing, name, answer, waiting).await?;
        if let Some(file) = &file {
            self.take_out(name, file)?;
        }
        let Some(answer) = finished else { return Ok(()) };
        if self.json {
            return self.print_json(&answer);
        }
        self.say(&doing.done())?;
        match file {
            None if addon.bindable => self.say(&format!(
                "No env file was named. Credentials that `--env-file` may have written into one stay there until you take them out with `standpipe addons remove {name} --env-file FILE`"
            )),
            _ => Ok(()),
        }
    }

    async fn dashboard(&mut self, name: &str, no_browser: bool) -> Done {
        let (_, answer) = self.client.ask(Method::GET, &self.path(name)?, None).await?;
        let addon: Addon = read(answer)?;
        let page = addon.dashboard_url.filter(|page| !page.is_empty());
        let page = page.ok_or_else(|| format!("{name} has no dashboard"))?;
        let doing = format!("Opening {name} for {}", self.place.app()?);
        self.open(&doing, &page, no_browser)
    }

    async fn docs(&mut self, name: &str, plan: Option<&str>, no_browser: bool) -> Done {
        let service = self.service(name, plan).await?;
        let page = service.documentation_url.filter(|page| !page.is_empty());
        let page = page.ok_or_else(|| format!("{name} has no documentation"))?;
        let doing = match self.place.app() {
            Ok(app) => format!("Opening documentation on {name} for {app}"),
            Err(_) => format!("Opening documentation on {name}"),
        };
        self.open(&doing, &page, no_browser)
    }

    fn open(&mut self, doing: &str, page: &str, no_browser: bool) -> Done {
        let page = browser::checked(page)?;
        if self.json {
            return self.print_json(&json!({ "url": page }));
        }
        if no_browser || !browser::open(page)? {
            return self.say(page);
        }
        self.say(&format!("{doing}... done"))
    }

    /// Waits until a command has ended, well or not; `None`: it goes on behind the caller's back, which was told.
    async fn finish(
        &mut self,
        doing: &Doing,
        name: &str,
        mut answer: Value,
        waiting: &Waiting,
    ) -> Done<Option<Value>> {
        let end = Instant::now() + waiting.timeout;
        loop {
            let state = answer.get("state").and_then(Value::as_str).unwrap_or_default();
            let error = answer.get("error").and_then(Value::as_str);
            match (state, error) {
                // Nothing is left of it.
                ("", _) => return Ok(Some(answer)),
                ("ready" | "failed", Some(error)) => return Err(doing.failed(error)),
                ("ready", None) => return Ok(Some(answer)),
                _ if !waiting.waits() => {
                    doing.end();
                    let told = if self.json { self.print_json(&answer) } else { self.say(&doing.started()) };
                    return told.map(|()| None);
                }
                _ if Instant::now() >= end => {
                    let advice = match self.own {
                        None => {
                            "it goes on: run the command again, or look with `standpipe addons list --added`"
                        }
                        Some(_) => "run the command again, and it goes on",
                    };
                    return Err(doing.failed(&format!("not done yet, it is {state}; {advice}")));
                }
                _ => sleep(POLL).await,
            }
            answer = match self.client.ask(Method::GET, &self.path(name)?, None).await {
                Ok((_, answer)) => answer,
                Err(Failure::Refused { status: StatusCode::NOT_FOUND, .. }) if state == "removing" => {
                    json!({})
                }
                Err(Failure::Refused { text, .. }) => return Err(doing.failed(&text)),
                // The server may be starting again; what it was asked for it knows.
                Err(Failure::Unreachable(text)) if Instant::now() >= end => return Err(doing.failed(&text)),
                Err(Failure::Unreachable(_)) => answer,
            };
        }
    }

    async fn service(&self, name: &str, plan: Option<&str>) -> Done<Service> {
        let mut target = joined(&["addons", "catalog", name]);
        append_query(&mut target, plan.map(|plan| ("plan", plan)).into_iter());
        let (_, answer) = self.client.ask(Method::GET, &target, None).await?;
        read(answer)
    }

    fn path(&self, name: &str) -> Done<String> {
        Ok(joined(&["addons", self.place.app()?, self.place.channel()?, name]))
    }

    fn whose(&self) -> Done<String> {
        Ok(format!("{}:{}", self.place.app()?, self.place.channel()?))
    }

    fn say(&mut self, line: &str) -> Done {
        writeln!(self.out, "{line}").map_err(text)
    }

    fn print_json(&mut self, value: &Value) -> Done {
        writeln!(self.out, "{value:#}").map_err(text)
    }
}

/// Whether it is the add-on that is not there, and not `/addons` itself.
fn is_not_added(text: &str, name: &str) -> bool {
    text.starts_with(&format!("{name} is not added to "))
}

/// What a user wants of a plan.
fn wish(plan: Option<&str>, parameters: Option<&str>) -> Done<Map<String, Value>> {
    let mut body = Map::new();
    body.extend(plan.map(|plan| ("plan".to_owned(), plan.into())));
    if let Some(text) = parameters {
        let object: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| format!("--parameters must be a JSON object, as '{{\"size\":2}}': {error}"))?;
        body.insert("parameters".into(), object.into());
    }
    Ok(body)
}

fn part<T: for<'de> Deserialize<'de>>(answer: &Value, key: &str) -> Done<T> {
    read(answer.get(key).cloned().unwrap_or_default())
}

fn read<T: for<'de> Deserialize<'de>>(value: Value) -> Done<T> {
    serde_json::from_value(value)
        .map_err(|error| format!("this is not the answer of a standpipe with add-ons: {error}"))
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}
