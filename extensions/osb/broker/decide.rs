//! What a request means to what there is: nothing to do, an operation that is already on its way, or a new one.

use http::{Response, StatusCode};
use serde_json::Value;
use standpipe_api::Body;

use super::answer::{self, Refusal};
use super::ask::{Ask, Told, find_plan, find_service};
use super::core::{Broker, Stored, decode};
use super::records::{Entry, Held, Operation, OperationId, PlanId, ServiceId, Subject, Task, Wish};
use super::settings::{BrokerSettings, Plan};
use crate::schema::Schema;

/// A request that may change something, as far as it can be read without looking.
#[derive(Debug)]
pub(super) enum Order {
    Provision(Wish),
    Update(Told),
    Bind(Told),
    Delete(ServiceId, PlanId),
}

/// What is to be done.
pub(super) enum Decision {
    /// Nothing: this is the answer.
    Answer(Response<Body>),
    /// Nothing new: an operation is doing it.
    Follow(Box<Operation>),
    /// A new operation.
    Start(Box<Start>),
}

/// An operation to be started.
pub(super) struct Start {
    pub(super) task: Task,
    /// What there is while it is in progress.
    pub(super) held: Held,
    /// What is to be when it has succeeded.
    pub(super) wish: Option<Wish>,
}

/// What there is when a request is decided.
pub(super) struct Found {
    pub(super) entry: Option<Stored<Entry>>,
    /// The instance of a binding.
    pub(super) parent: Option<Stored<Entry>>,
    /// The operation in progress.
    busy: Option<Operation>,
}

impl Found {
    fn made(&self) -> Option<&Held> {
        self.entry.as_ref().and_then(|entry| entry.content.made())
    }
}

impl Order {
    /// Reads what method and body ask for.
    pub(super) fn read(
        method: &str,
        settings: &BrokerSettings,
        ask: &Ask,
        subject: &Subject,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        if method == "DELETE" {
            let (service, plan) = ask.ids()?;
            return Ok(Self::Delete(service.clone(), plan.clone()));
        }
        let told = Told::read(body)?;
        if subject.binding.is_some() {
            if told.predecessor().is_none() {
                told.offering(settings)?;
            }
            return Ok(Self::Bind(told));
        }
        if method == "PATCH" {
            told.service(settings)?;
            return Ok(Self::Update(told));
        }
        let (service, plan) = told.offering(settings)?;
        told.check_place()?;
        told.check_maintenance(plan)?;
        let wish = told.wish(&service.id, &plan.id);
        check_parameters(&wish, plan.schemas.provision.as_ref())?;
        Ok(Self::Provision(wish))
    }

    const fn task(&self) -> Task {
        match self {
            Self::Provision(_) | Self::Bind(_) => Task::Create,
            Self::Update(_) => Task::Update,
            Self::Delete(..) => Task::Delete,
        }
    }
}

impl Broker {
    /// Looks at what there is.
    pub(super) async fn look(&self, subject: &Subject) -> Result<Found, Refusal> {
        let parent = match subject.binding {
            Some(_) => self.entry(&subject.parent()).await?,
            None => None,
        };
        let entry = self.entry(subject).await?;
        let busy: Option<&OperationId> = entry
            .as_ref()
            .map(|entry| &entry.content)
            .filter(|entry| entry.busy)
            .map(|entry| &entry.operation);
        let busy = match busy {
            Some(id) => self.operation(subject.side(), id).await?.map(|stored| stored.content),
            None => None,
        };
        Ok(Found { entry, parent, busy })
    }

    /// Decides what is to be done.
    pub(super) async fn decide(
        &self,
        settings: &BrokerSettings,
        subject: &Subject,
        order: &Order,
        found: &Found,
    ) -> Result<Decision, Refusal> {
        match order {
            Order::Provision(wish) => create(wish, found),
            Order::Bind(told) => self.bind(settings, subject, told, found).await,
            Order::Update(told) => self.update(settings, subject, told, found).await,
            Order::Delete(service, plan) => self.delete(settings, subject, (service, plan), found).await,
        }
        .and_then(|decision| match decision {
            // Nobody else's work is followed: what is in progress is something else.
            Decision::Follow(operation) if operation.task != order.task() => Err(Refusal::concurrency()),
            decision => Ok(decision),
        })
    }

    async fn update(
        &self,
        settings: &BrokerSettings,
        subject: &Subject,
        told: &Told,
        found: &Found,
    ) -> Result<Decision, Refusal> {
        let entry = found.entry.as_ref().map(|stored| &stored.content);
        let held =
            entry.and_then(|entry| entry.held.as_ref()).filter(|held| held.made || found.busy.is_some());
        let held = held.ok_or_else(|| Refusal::unknown("Service instance does not exist"))?;
        let service = told.service(settings)?;
        if service.id != held.wish.service {
            return Err(Refusal::bad("service_id is not that of the instance; it cannot be changed"));
        }
        let plan_id = told.plan_id().unwrap_or_else(|| held.wish.plan.clone());
        let plan = find_plan(service, &plan_id)?;
        if plan_id != held.wish.plan && !service.plan(&held.wish.plan).is_none_or(|plan| plan.updateable) {
            return Err(Refusal::bad("plan_id cannot be changed: the plan is not updateable"));
        }
        told.check_maintenance(plan)?;
        let change = told.wish(&service.id, &plan_id);
        check_parameters(&change, plan.schemas.update.as_ref().filter(|_| told.parameters.is_some()))?;
        let wish = merged(&held.wish, change, service.allow_context_updates);
        match &found.busy {
            Some(busy) if busy.wish.as_ref().is_some_and(|other| other.is_same(&wish)) => {
                return Ok(Decision::Follow(Box::new(busy.clone())));
            }
            Some(_) => return Err(Refusal::concurrency()),
            None if wish == held.wish => return Ok(answered(StatusCode::OK, held)),
            None => self.check_bindings(subject).await?,
        }
        Ok(start(Task::Update, held.clone(), Some(wish)))
    }

    async fn delete(
        &self,
        settings: &BrokerSettings,
        subject: &Subject,
        (service, plan): (&ServiceId, &PlanId),
        found: &Found,
    ) -> Result<Decision, Refusal> {
        let entry = found.entry.as_ref().map(|stored| &stored.content);
        let Some(held) = entry.and_then(|entry| entry.held.as_ref()) else {
            if settings.keeping(subject.side()).force_delete_unknown {
                tracing::warn!(broker = %self.name, ?subject, "deleted by force: it was not known");
                return Ok(Decision::Answer(answer::done()));
            }
            find_plan(find_service(settings, service)?, plan)?;
            return Err(Refusal::gone(format!("{} does not exist", subject.side().noun())));
        };
        if *service != held.wish.service {
            return Err(Refusal::bad("service_id is not that of the instance"));
        }
        // A platform that never heard of an update's success may name the plan before it; its own plan may be one that is
        // not offered any more.
        if *plan != held.wish.plan {
            find_plan(find_service(settings, service)?, plan)?;
        }
        if let Some(busy) = &found.busy {
            return Ok(Decision::Follow(Box::new(busy.clone())));
        }
        match subject.binding {
            None => self.check_bindings(subject).await?,
            Some(_) => check_parent(found)?,
        }
        Ok(start(Task::Delete, held.clone(), None))
    }

    async fn bind(
        &self,
        settings: &BrokerSettings,
        subject: &Subject,
        told: &Told,
        found: &Found,
    ) -> Result<Decision, Refusal> {
        // Once it is there, its predecessor may go.
        if let (Some(held), None, Some(old)) = (found.made(), &found.busy, told.predecessor())
            && held.wish.predecessor == Some(old)
        {
            return Ok(answered(StatusCode::OK, held));
        }
        let wish = match told.predecessor() {
            Some(id) => {
                let predecessor = Subject { binding: Some(id), ..subject.clone() };
                let old = self.entry(&predecessor).await?.map(|stored| stored.content);
                let held = old.as_ref().and_then(|old| old.made());
                let held =
                    held.ok_or_else(|| Refusal::bad("predecessor_binding_id is not a service binding"))?;
                if old.as_ref().is_some_and(|old| old.busy) {
                    return Err(Refusal::concurrency());
                }
                Wish { predecessor: predecessor.binding, ..held.wish.clone() }
            }
            None => {
                let (service, plan) = told.offering(settings)?;
                told.wish(&service.id, &plan.id)
            }
        };
        let decision = create(&wish, found)?;
        if !matches!(decision, Decision::Start(_)) {
            return Ok(decision);
        }
        check_parent(found)?;
        let instance = found.parent.as_ref().and_then(|parent| parent.content.made());
        let instance = instance.ok_or_else(|| Refusal::unknown("Service instance does not exist"))?;
        if (&instance.wish.service, &instance.wish.plan) != (&wish.service, &wish.plan)
            && wish.predecessor.is_none()
        {
            return Err(Refusal::bad("service_id and plan_id are not those of the instance"));
        }
        let plan = find_plan(find_service(settings, &wish.service)?, &wish.plan)?;
        check_bind(told, &wish, plan)?;
        Ok(decision)
    }

    /// While a binding changes, its instance does not.
    async fn check_bindings(&self, subject: &Subject) -> Result<(), Refusal> {
        let mut after: Option<String> = None;
        loop {
            let page = self.bindings(subject, after.as_deref()).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for record in &page {
                if decode::<Entry>(record)?.busy {
                    return Err(Refusal::concurrency());
                }
            }
        }
    }
}

/// While an instance changes, its bindings do not.
fn check_parent(found: &Found) -> Result<(), Refusal> {
    let busy = found.parent.as_ref().is_some_and(|parent| parent.content.busy);
    if busy { Err(Refusal::concurrency()) } else { Ok(()) }
}

fn check_bind(told: &Told, wish: &Wish, plan: &Plan) -> Result<(), Refusal> {
    if !plan.bindable {
        return Err(Refusal::bad("the plan is not bindable"));
    }
    if wish.predecessor.is_some() {
        return if plan.rotatable {
            Ok(())
        } else {
            Err(Refusal::bad("the plan's service bindings cannot be rotated"))
        };
    }
    if plan.requires_app && !told.has_app() {
        return Err(Refusal::code(
            "RequiresApp",
            "this service supports generation of credentials through binding an application only",
        ));
    }
    check_parameters(wish, plan.schemas.bind.as_ref())
}

/// A provision or bind request: what exists is the same, or another one.
fn create(wish: &Wish, found: &Found) -> Result<Decision, Refusal> {
    if let Some(busy) = &found.busy {
        let held = found.entry.as_ref().and_then(|entry| entry.content.held.as_ref());
        return match held {
            _ if busy.task != Task::Create => Err(Refusal::concurrency()),
            Some(held) if !held.wish.is_same(wish) => {
                Err(Refusal::conflict("it exists with other attributes"))
            }
            _ => Ok(Decision::Follow(Box::new(busy.clone()))),
        };
    }
    match found.made() {
        Some(held) if held.wish.is_same(wish) => Ok(answered(StatusCode::OK, held)),
        Some(_) => Err(Refusal::conflict("it exists with other attributes")),
        None => {
            let held =
                Held { made: false, wish: wish.clone(), state: Value::Null, told: serde_json::Map::new() };
            Ok(start(Task::Create, held, Some(wish.clone())))
        }
    }
}

/// What an instance is to be: what an update leaves out stays.
fn merged(old: &Wish, change: Wish, with_context: bool) -> Wish {
    let mut wish = old.clone();
    wish.plan = change.plan;
    if let Some(parameters) = change.parameters.filter(|parameters| !parameters.is_empty()) {
        wish.parameters.get_or_insert_default().extend(parameters);
    }
    if change.maintenance_info.is_some() {
        wish.maintenance_info = change.maintenance_info;
    }
    if with_context && change.context.is_some() {
        wish.context = change.context;
    }
    wish
}

fn check_parameters(wish: &Wish, schema: Option<&Schema>) -> Result<(), Refusal> {
    let Some(schema) = schema else { return Ok(()) };
    let parameters = Value::Object(wish.parameters.clone().unwrap_or_default());
    let mut violations = Vec::new();
    schema.check(&parameters, "parameters", &mut violations);
    if violations.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Err(Refusal::bad(texts.join("; ")))
}

fn start(task: Task, held: Held, wish: Option<Wish>) -> Decision {
    Decision::Start(Box::new(Start { task, held, wish }))
}

fn answered(status: StatusCode, held: &Held) -> Decision {
    Decision::Answer(answer::json(status, &Value::Object(held.told.clone())))
}
