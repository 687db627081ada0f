//! What each answer of a broker means, and how names are kept.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use standpipe_api::Timestamp;

use super::choice;
use super::record::{Addon, At, Bound, Plan};
use super::stage::{Heard, Left, Progress, Stage, Task, Update, Why};
use crate::osb::client::Reply;

fn at(tenant: Option<&str>) -> At {
    At {
        caller: "basic:ann".into(),
        tenant: tenant.map(str::to_owned),
        app: "my/app".into(),
        channel: "development".into(),
        name: "mysql".into(),
        salt: None,
    }
}

fn plan(name: &str) -> Plan {
    Plan {
        name: name.into(),
        provider: "alpha".into(),
        service_id: "s".into(),
        plan_id: format!("s-{name}"),
        bindable: true,
        retrievable: false,
        polling_seconds: Some(120),
        maintenance: None,
        costs: Vec::new(),
        documentation: None,
    }
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_000_000)
}

fn addon(task: Task) -> Addon {
    let mut addon = Addon::new(at(None), plan("free"), None, now());
    addon.bound = if matches!(task, Task::Bind | Task::Unbind(_)) { Bound::Perhaps } else { Bound::No };
    addon.stage = Stage::begin(task, now());
    addon
}

fn reply(status: u16, body: &Value) -> Reply {
    let body = body.as_object().cloned().unwrap_or_default();
    Reply { status: StatusCode::from_u16(status).unwrap(), body, retry_after: None }
}

fn answered(task: Task, status: u16, body: &Value) -> Addon {
    addon(task).after(Heard::Answered(reply(status, body)), now()).unwrap()
}

fn task(addon: &Addon) -> &Task {
    let Stage::Working(work) = &addon.stage else { panic!("{:?}", addon.stage) };
    &work.task
}

#[test]
fn an_addon_is_provisioned_then_bound_then_ready() {
    let provisioned = answered(Task::Provision, 201, &json!({ "dashboard_url": "https://d" }));
    assert_eq!((task(&provisioned), provisioned.dashboard.as_deref()), (&Task::Bind, Some("https://d")));
    let body = json!({ "credentials": { "uri": "x" } });
    let ready = provisioned.after(Heard::Answered(reply(201, &body)), now()).unwrap();
    assert_eq!((&ready.stage, ready.credentials.is_some()), (&Stage::Ready, true));
    let mut retrievable = addon(Task::Bind);
    retrievable.plan.retrievable = true;
    let ready = retrievable.after(Heard::Answered(reply(201, &body)), now()).unwrap();
    assert_eq!(ready.credentials, None, "what the broker gives again is not kept");
    let mut unbindable = addon(Task::Provision);
    unbindable.plan.bindable = false;
    assert_eq!(unbindable.after(Heard::Answered(reply(201, &json!({}))), now()).unwrap().stage, Stage::Ready);
}

#[test]
fn what_takes_its_time_is_asked_when_the_broker_wishes_and_no_longer_than_the_plan_says() {
    let wait =
        Reply { retry_after: Some(Duration::from_secs(40)), ..reply(202, &json!({ "operation": "op" })) };
    let accepted = addon(Task::Provision).after(Heard::Answered(wait), now()).unwrap();
    let Stage::Working(work) = &accepted.stage else { panic!("{accepted:?}") };
    assert_eq!(work.progress, Progress::Accepted(Some("op".into())));
    assert_eq!(work.ask_after, now().plus(Duration::from_secs(40)));
    assert_eq!(work.deadline, now().plus(Duration::from_secs(120)));
    for body in [json!({ "state": "in progress" }), json!({ "state": "odd" }), json!({})] {
        let still = accepted.clone().after(Heard::Polled(reply(200, &body)), now()).unwrap();
        assert_eq!(task(&still), &Task::Provision);
    }
    let done = accepted.clone().after(Heard::Polled(reply(200, &json!({ "state": "succeeded" }))), now());
    assert_eq!(task(&done.unwrap()), &Task::Bind);
    let overdue = accepted.after(Heard::Overdue, now()).unwrap();
    assert_eq!(task(&overdue), &Task::Deprovision(Why::Failure));
    assert!(overdue.error.unwrap().contains("did not finish in time"));
}

#[test]
fn what_was_only_not_taken_in_is_sent_again() {
    let busy = json!({ "error": "ConcurrencyError", "description": "d" });
    for heard in [Heard::Lost, Heard::Answered(reply(503, &json!({}))), Heard::Answered(reply(422, &busy))] {
        let again = addon(Task::Provision).after(heard.clone(), now()).unwrap();
        let Stage::Working(work) = &again.stage else { panic!("{heard:?}") };
        assert_eq!((&work.task, &work.progress, work.attempts), (&Task::Provision, &Progress::Unsent, 1));
        assert!(work.ask_after > now() && again.error.is_none());
    }
}

#[test]
fn failures_are_told_in_the_brokers_words_and_leave_nothing_behind() {
    let refused = answered(Task::Provision, 400, &json!({ "description": "no such size" }));
    assert_eq!(
        (refused.stage, refused.error.as_deref()),
        (Stage::Failed(Left::Nothing), Some("no such size"))
    );
    let broken = answered(Task::Provision, 500, &json!({}));
    assert_eq!(task(&broken), &Task::Deprovision(Why::Failure));
    assert!(broken.error.as_deref().unwrap().contains("500"));
    let cleaned = broken.clone().after(Heard::Answered(reply(410, &json!({}))), now()).unwrap();
    assert_eq!((cleaned.stage, cleaned.error), (Stage::Failed(Left::Nothing), broken.error.clone()));
    let stuck = broken.after(Heard::Answered(reply(400, &json!({ "description": "stuck" }))), now()).unwrap();
    assert_eq!(stuck.stage, Stage::Failed(Left::Perhaps));
    assert!(stuck.error.unwrap().ends_with("could not be removed: stuck"));
    assert_eq!(task(&answered(Task::Bind, 400, &json!({}))), &Task::Deprovision(Why::Failure));
    assert_eq!(task(&answered(Task::Bind, 500, &json!({}))), &Task::Unbind(Why::Failure));
    let update = Task::Update(Box::new(Update { plan: plan("large"), parameters: None }));
    let kept = answered(update.clone(), 422, &json!({ "description": "sold out" }));
    assert_eq!(
        (&kept.stage, &*kept.plan.name, kept.error.as_deref()),
        (&Stage::Ready, "free", Some("sold out"))
    );
    assert_eq!(answered(update, 200, &json!({})).plan.name, "large");
}

#[test]
fn an_addon_is_unbound_then_deprovisioned_then_gone() {
    let unbound = answered(Task::Unbind(Why::Wanted), 410, &json!({}));
    assert_eq!((task(&unbound), unbound.bound), (&Task::Deprovision(Why::Wanted), Bound::No));
    assert_eq!(unbound.after(Heard::Answered(reply(200, &json!({}))), now()), None);
    let refused = answered(Task::Deprovision(Why::Wanted), 400, &json!({ "description": "in use" }));
    assert_eq!(refused.stage, Stage::Failed(Left::Perhaps));
    assert!(refused.removal(now()).is_some(), "it can be tried again");
    let unsent = answered(Task::Provision, 400, &json!({}));
    assert_eq!(unsent.removal(now()), None, "nothing of it is at the broker");
}

#[test]
fn ids_are_of_tenant_app_channel_and_name_and_never_change() {
    let instance = at(None).instance();
    assert_eq!(instance.id.as_str(), "996c5992-796e-8096-a2c4-607ac2af3c62");
    assert_eq!(at(None).binding().parent.as_ref(), Some(&instance.id));
    assert_ne!(at(None).binding().id, instance.id);
    let salted = At { salt: Some("s".into()), ..at(None) };
    assert_ne!(salted.instance(), instance);
    assert_eq!((salted.instance(), salted.key()), (salted.clone().instance(), at(None).key()));
    assert_ne!(at(Some("acme")).instance().id, instance.id);
    let other = At { caller: "basic:bob".into(), ..at(Some("acme")) };
    assert_eq!(other.instance(), at(Some("acme")).instance(), "a tenant's callers share");
    assert_eq!(at(None).key(), "caller/basic:ann/my%2Fapp/development/mysql");
    let caller = at(Some("acme")).caller();
    assert_eq!(At::group(&caller, Some("my/app"), None), "tenant/acme/my%2Fapp/");
    assert!(At { app: "my".into(), ..at(None) }.key() != At { channel: "app".into(), ..at(None) }.key());
}

#[test]
fn the_plan_of_an_addon_is_its_own_although_nobody_offers_it_any_more() {
    let ready = Addon { stage: Stage::Ready, ..addon(Task::Bind) };
    let own = |plan, addon| choice::plan(&[], ("mysql", plan), Some(addon)).ok();
    assert_eq!(own(None, &ready), Some(ready.plan.clone()));
    assert_eq!(own(Some("free"), &ready), Some(ready.plan.clone()));
    assert_eq!(own(Some("large"), &ready), None);
    let nothing = Addon { stage: Stage::Failed(Left::Nothing), ..ready.clone() };
    assert_eq!(own(None, &nothing), None, "nothing is there");
}
