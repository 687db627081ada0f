//! Providers that come, change and go at run time, beside those of the configuration.
//!
//! In: what an operator says, by the admin API. Out: another [`Running`], in force at once and durable before it is. Every
//! change of what is in force passes here, a reload of the configuration too, one at a time. A change keeps all that it is
//! not about as it is, with pools and breakers; calls go on under what they began with.

mod greeting;
mod registration;
mod renaming;
mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use standpipe_api::{Availability, Error, ErrorKind, Fault, Problem, Problems, ProviderId, Result};
use tokio::sync::{Mutex, watch};

pub use self::registration::{Change, Given, Registration};
pub use self::renaming::Renaming;
pub use self::said::{AtRunTime, LeftOut};
use crate::announce::ProviderChange;
use crate::assemble::{self, Parts, Tools};
use crate::config::Config;
use crate::engine::{Engine, Running};
use crate::store::{Held, Removal, TokenFilter};

/// Names of registered providers that one process takes in all its life: what is counted of a provider stays in the
/// metrics when it is removed, as after a reload.
const MOST_NAMES: usize = 4096;

/// From where an operator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// This machine.
    Here,
    /// Elsewhere: what makes standpipe read its machine's files and secrets, or run programs, is not for it to say.
    Elsewhere,
}

/// Which providers are to be asked now, and how often that was said of each.
pub type Wishes = BTreeMap<ProviderId, u64>;

/// The one who changes what is in force.
pub struct Registry {
    engine: Arc<Engine>,
    parts: Parts,
    tools: Tools,
    reloads: watch::Sender<u64>,
    wishes: watch::Sender<Wishes>,
    /// One change at a time; the names that were registered since the start.
    names: Mutex<BTreeSet<ProviderId>>,
}

impl Registry {
    /// A registry over what is in force.
    pub fn new(engine: Arc<Engine>, parts: Parts, tools: Tools) -> Self {
        let running = engine.running.load();
        let names = running.at_run_time.registered().iter().map(|registration| registration.name.clone());
        let names = Mutex::new(names.collect());
        tell_left_out(&running);
        drop(running);
        let (reloads, wishes) = (watch::Sender::new(0), watch::Sender::new(Wishes::new()));
        Self { engine, parts, tools, reloads, wishes, names }
    }

    /// Rings after each change.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.subscribe()
    }

    /// Rings when a provider is to be asked now.
    pub fn wishes(&self) -> watch::Receiver<Wishes> {
        self.wishes.subscribe()
    }

    /// Takes in a changed configuration. What was registered stays behind what it has.
    ///
    /// # Errors
    /// Every mistake, `accept`'s among them; the old configuration stays in force.
    pub async fn reload(
        &self,
        config: Config,
        accept: impl FnOnce(&Running) -> Result<(), Problems>,
    ) -> Result<(), Problems> {
        let _alone = self.names.lock().await;
        let old = self.engine.running.load_full();
        let said = old.at_run_time.clone();
        let (parts, tools, metrics) = (&self.parts, &self.tools, &self.engine.metrics);
        let running = assemble::running(config, said, parts, tools, metrics, Some(&old))?;
        self.ids_stay(&old, &running).await?;
        accept(&running)?;
        tell_left_out(&running);
        self.put_in_force(running);
        Ok(())
    }

    /// Registers a provider, after it was asked. Gives its name.
    ///
    /// # Errors
    /// 400 with every mistake; 409 when the name is taken; 502 when it cannot be asked; the store does not answer.
    pub async fn add(&self, body: serde_json::Value, whence: Whence) -> Result<ProviderId> {
        let registration = Arc::new(Given::read(body).and_then(Given::first).map_err(mistakes)?);
        let name = registration.name.clone();
        let old = self.engine.running.load_full();
        free(&old, &name)?;
        self.permitted(&registration, None, whence)?;
        let candidate = self.with(&old, &registration)?;
        greeting::greet(&self.engine, candidate, &name).await?;
        let mut names = self.names.lock().await;
        let old = self.engine.running.load_full();
        free(&old, &name)?;
        if !names.contains(&name) && names.len() >= MOST_NAMES {
            let text = format!("this process has taken {MOST_NAMES} names of providers");
            return Err(Error::conflict(text).advise("use a name again, or restart standpipe"));
        }
        let candidate = self.with(&old, &registration)?;
        let event = ProviderChange::Added.event(&name, registration.dialect());
        self.engine.store.register_provider(name.clone(), registration.to_bytes(), event).await?;
        names.insert(name.clone());
        self.put_in_force(candidate);
        announce(&name, ProviderChange::Added);
        Ok(name)
    }

    /// Changes what a provider is registered with, after it was asked.
    ///
    /// # Errors
    /// As [`Registry::add`]; it is not registered; a changed address comes without credentials; ids of what lives there
    /// would change, and it is not forced.
    pub async fn update(
        &self,
        name: &ProviderId,
        body: serde_json::Value,
        (change, renaming): (Change, Renaming),
        whence: Whence,
    ) -> Result<()> {
        let old = self.engine.running.load_full();
        let known = registered(&old, name)?.clone();
        let registration = Arc::new(known.changed(body, change).map_err(mistakes)?);
        self.permitted(&registration, Some(&known), whence)?;
        let candidate = self.with(&old, &registration)?;
        greeting::greet(&self.engine, candidate, name).await?;
        let _alone = self.names.lock().await;
        let old = self.engine.running.load_full();
        if !Arc::ptr_eq(registered(&old, name)?, &known) {
            let text = format!("{name} was changed by somebody else meanwhile");
            return Err(Error::conflict(text).advise("look at it, then repeat"));
        }
        if renaming == Renaming::Refused {
            self.keeps_ids(&known, &registration).await?;
        }
        let candidate = self.with(&old, &registration)?;
        let event = ProviderChange::Updated.event(name, registration.dialect());
        self.engine.store.register_provider(name.clone(), registration.to_bytes(), event).await?;
        self.forget_tokens(name).await;
        self.put_in_force(candidate);
        announce(name, ProviderChange::Updated);
        Ok(())
    }

    /// Says whether a provider takes anything new, a configured one too.
    ///
    /// # Errors
    /// There is none of this name, or the store does not answer.
    pub async fn set_availability(&self, name: &ProviderId, availability: Availability) -> Result<()> {
        let _alone = self.names.lock().await;
        let old = self.engine.running.load_full();
        let dialect = dialect_of(&old, name)?;
        let said = old.at_run_time.clone().with_availability(name, availability);
        let became = match availability {
            Availability::Active => ProviderChange::Active,
            Availability::Draining => ProviderChange::Draining,
        };
        let event = became.event(name, &dialect);
        self.engine.store.set_availability(name.clone(), availability, event).await?;
        self.put_in_force(self.assembled(&old, said));
        announce(name, became);
        Ok(())
    }

    /// Removes a registered provider; gives what mappings still lead to it.
    ///
    /// # Errors
    /// It is not registered; mappings lead to it and it is not forced; the store does not answer.
    pub async fn remove(&self, name: &ProviderId, removal: Removal) -> Result<Held> {
        let _alone = self.names.lock().await;
        let old = self.engine.running.load_full();
        let dialect = registered(&old, name)?.dialect();
        let event = ProviderChange::Removed.event(name, dialect);
        let held = self.engine.store.remove_provider(name.clone(), removal, event).await?;
        if held.count > 0 && removal == Removal::WhenEmpty {
            let some: Vec<String> = held.some.iter().map(ToString::to_string).collect();
            let text = format!("{name} still has {} resources, such as {}", held.count, some.join(", "));
            let advice = format!(
                "drain it (standpipe providers drain {name}) and remove it when they are gone; force leaves them \
                 without a provider"
            );
            return Err(Error::conflict(text).advise(advice));
        }
        let running = self.assembled(&old, old.at_run_time.clone().without(name));
        self.put_in_force(running);
        self.engine.resolver.index().forget(name);
        self.wishes.send_if_modified(|wishes| wishes.remove(name).is_some());
        self.forget_tokens(name).await;
        announce(name, ProviderChange::Removed);
        Ok(held)
    }

    /// Wants a provider asked now for what it has. One that is left out is tried again first.
    ///
    /// # Errors
    /// There is none of this name, or it still cannot be put to work.
    pub async fn refresh(&self, name: &ProviderId) -> Result<()> {
        let _alone = self.names.lock().await;
        let old = self.engine.running.load_full();
        if old.is_left_out(name) {
            let running = self.assembled(&old, old.at_run_time.clone());
            if let Some(left_out) = running.left_out.iter().find(|left_out| left_out.name == *name) {
                return Err(still_left_out(left_out));
            }
            self.put_in_force(running);
            tracing::info!(provider = %name, "a provider that was left out is put to work");
        } else {
            old.find(name).ok_or_else(|| unknown(name))?;
        }
        self.wishes.send_modify(|wishes| *wishes.entry(name.clone()).or_default() += 1);
        Ok(())
    }

    /// The table a provider is registered with, without a secret's value.
    pub fn settings(&self, name: &ProviderId) -> Option<toml::Table> {
        let running = self.engine.running.load();
        running.at_run_time.registration(name).map(|registration| registration.table.clone())
    }

    /// The registered providers that cannot be put to work.
    pub fn left_out(&self) -> Vec<LeftOut> {
        self.engine.running.load().left_out.clone()
    }

    /// What would be in force with a registration.
    fn with(&self, old: &Running, registration: &Arc<Registration>) -> Result<Running> {
        let running = self.assembled(old, old.at_run_time.clone().with(registration.clone()));
        match running.left_out.iter().find(|left_out| left_out.name == registration.name) {
            Some(left_out) => Err(mistakes(left_out.problems.clone())),
            None => Ok(running),
        }
    }

    fn assembled(&self, old: &Running, said: AtRunTime) -> Running {
        assemble::with_providers(old, said, &self.parts, &self.tools, &self.engine.metrics)
    }

    fn put_in_force(&self, mut running: Running) {
        running.epoch = self.engine.running.load().epoch + 1;
        self.engine.running.store(Arc::new(running));
        self.reloads.send_modify(|count| *count += 1);
    }

    /// Refuses a registration under which callers' ids would become others.
    async fn keeps_ids(&self, known: &Registration, new: &Registration) -> Result<()> {
        let Some(dialect) = self.parts.router.dialect_named(known.dialect()) else { return Ok(()) };
        let (store, dialect) = (&*self.engine.store, &**self.parts.router.dialect(dialect));
        match renaming::refusal(store, dialect, &known.name, (&known.table, &new.table)).await? {
            None => Ok(()),
            Some((key, why)) => Err(Error::conflict(format!("{key}: {why}")).advise(
                "leave it as it is, or drain this provider and add another; force changes it, and platforms can no longer \
                 update or delete by the ids they have",
            )),
        }
    }

    /// The same of the configuration.
    async fn ids_stay(&self, old: &Running, new: &Running) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for (at, provider) in new.config.providers.iter().enumerate() {
            let Some(before) = old.config.providers.iter().find(|before| before.id == provider.id) else {
                continue;
            };
            let Some(dialect) = self.parts.router.dialect_named(&before.dialect) else { continue };
            let (store, dialect) = (&*self.engine.store, &**self.parts.router.dialect(dialect));
            let tables = (&before.dialect_settings, &provider.dialect_settings);
            match renaming::refusal(store, dialect, &provider.id, tables).await {
                Ok(None) => {}
                Ok(Some((key, why))) => problems.push(Problem::at(format!("provider[{at}].{key}"), why)),
                Err(error) => problems.push(Problem::at(format!("provider[{at}]"), error.to_string())),
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Whether who speaks may say this.
    fn permitted(
        &self,
        registration: &Registration,
        before: Option<&Registration>,
        whence: Whence,
    ) -> Result<()> {
        if whence == Whence::Here {
            return Ok(());
        }
        let (table, before) = (&registration.table, before.map(|before| &before.table));
        let mut keys = registration::reads_machine(table, before);
        if let Some(dialect) = self.parts.router.dialect_named(registration.dialect()) {
            let reaching = self.parts.router.dialect(dialect).reaches_machine(table).into_iter();
            let new = |key: &&str| before.and_then(|before| before.get(*key)) != table.get(*key);
            keys.extend(reaching.filter(new).map(str::to_owned));
        }
        let text = "files, variables and programs of standpipe's machine are for operators on it; give a secret as {\"value\": \"...\"}";
        let problems: Problems = keys.into_iter().map(|key| Problem::at(key, text)).collect();
        if problems.is_empty() { Ok(()) } else { Err(mistakes(problems)) }
    }

    /// What was obtained for a provider is not for one that takes its name or its place.
    async fn forget_tokens(&self, name: &ProviderId) {
        let theirs = TokenFilter { provider: Some(name.clone()), ..TokenFilter::default() };
        if let Err(error) = self.engine.tokens.purge(&theirs).await {
            tracing::warn!(provider = %name, error = error.log_text(), "its kept tokens could not be removed");
        }
    }
}

/// Tells the log what became of a provider; the feed was told in the transaction that made it so.
fn announce(name: &ProviderId, became: ProviderChange) {
    tracing::info!(provider = %name, became = became.kind(), "an operator changed a provider");
}

/// Registered providers that are not in force, with what to do.
fn tell_left_out(running: &Running) {
    for left_out in &running.left_out {
        tracing::error!(
            provider = %left_out.name,
            problems = lines(&left_out.problems),
            "a registered provider is left out; mend what is wrong and refresh it, or update or remove it (standpipe providers)"
        );
    }
}

/// Every mistake as one error.
fn mistakes(problems: Problems) -> Error {
    Error::invalid(lines(&problems))
        .advise("nothing was stored; the keys are those of [[provider]] in the configuration")
}

fn still_left_out(left_out: &LeftOut) -> Error {
    let (name, lines) = (&left_out.name, lines(&left_out.problems));
    Error::conflict(format!("{name} is registered, but cannot be put to work: {lines}")).advise(format!(
        "mend it where it stands and refresh {name} again, or change it (standpipe providers update {name})"
    ))
}

fn lines(problems: &Problems) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn free(running: &Running, name: &ProviderId) -> Result<()> {
    if running.config.providers.iter().any(|configured| configured.id == *name) {
        let text = format!("a provider of the configuration is named {name}");
        return Err(
            Error::conflict(text).advise("choose another name, or change the configuration and send SIGHUP")
        );
    }
    if running.at_run_time.registration(name).is_some() {
        let text = format!("a provider named {name} is registered");
        return Err(Error::conflict(text).advise("update it, or choose another name"));
    }
    Ok(())
}

fn unknown(name: &ProviderId) -> Error {
    Error::new(ErrorKind::NoRoute, Fault::Caller, format!("no provider is named {name}"))
        .advise("GET /providers lists all")
}

/// The dialect of a provider, one that is left out too.
fn dialect_of(running: &Running, name: &ProviderId) -> Result<String> {
    let registered = || Some(running.at_run_time.registration(name)?.dialect().to_owned());
    let running = running.find(name).map(|provider| provider.public.dialect.to_owned());
    running.or_else(registered).ok_or_else(|| unknown(name))
}

fn registered<'a>(running: &'a Running, name: &ProviderId) -> Result<&'a Arc<Registration>> {
    if let Some(registration) = running.at_run_time.registration(name) {
        return Ok(registration);
    }
    if running.find(name).is_some() {
        let text = format!("{name} stands in the configuration and is not changed here");
        return Err(
            Error::conflict(text).advise("change the configuration and send SIGHUP; it can be drained here")
        );
    }
    Err(unknown(name))
}
