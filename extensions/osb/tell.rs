//! What the feed is told of instances and bindings, put together from the request and the catalog.

use serde_json::{Map, Value};
use standpipe_api::{Caller, Mapping, NewEvent, ProviderId, Resource};

use super::catalog::Generation;
use super::event::{BindingEvent, Cost, InstanceEvent, kind};
use super::ids::Ids;

/// What is known of a request that changes something.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    /// The instance or binding.
    pub resource: &'a Resource,
    /// Where.
    pub provider: &'a ProviderId,
    /// The ids of service and plan, as platforms know them.
    pub ids: &'a Ids,
    /// The request's body.
    pub body: &'a Map<String, Value>,
    /// Whose it is.
    pub caller: &'a Caller,
}

/// The payload of an instance's event.
pub(super) fn instance(now: &Generation, about: About<'_>) -> Value {
    let (service_id, plan_id) =
        (about.ids.service.clone().unwrap_or_default(), about.ids.plan.clone().unwrap_or_default());
    let member = now.member(about.provider);
    let service = member.and_then(|member| member.service(&service_id));
    let plan = member.zip(service).and_then(|(member, service)| member.plan(service, &plan_id));
    let fields = plan.map(|plan| Value::from(plan.fields())).unwrap_or_default();
    let event = InstanceEvent {
        instance: about.resource.id.to_string(),
        provider: about.provider.to_string(),
        service: member
            .zip(service)
            .map(|(member, service)| now.name(member, service))
            .unwrap_or_default()
            .to_owned(),
        plan: plan.map(|plan| plan.name.clone()).unwrap_or_default(),
        service_id,
        plan_id,
        organization: of_context(about.body, &["organization_name", "organization_guid"]),
        space: of_context(about.body, &["space_name", "space_guid", "namespace"]),
        app: app(about.body),
        tenant: about.caller.tenant.clone(),
        costs: Cost::of_plan(&fields),
    };
    serde_json::to_value(event).unwrap_or_default()
}

/// The payload of a binding's event.
pub(super) fn binding(about: About<'_>) -> Value {
    let event = BindingEvent {
        binding: about.resource.id.to_string(),
        instance: about.resource.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        provider: about.provider.to_string(),
        app: app(about.body),
        tenant: about.caller.tenant.clone(),
    };
    serde_json::to_value(event).unwrap_or_default()
}

/// The event of a binding that went with its instance.
pub(super) fn unbound(binding: &Mapping) -> NewEvent {
    let Mapping { resource, provider, owner, tenant, .. } = binding;
    let payload = BindingEvent {
        binding: resource.id.to_string(),
        instance: resource.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        provider: provider.to_string(),
        app: None,
        tenant: tenant.clone(),
    };
    let event = NewEvent::new(kind::BINDING_DELETED, &payload).about(resource.clone());
    event.at(provider.clone()).owned(owner.clone(), tenant.clone())
}

/// The first of some names that the platform's `context`, or the request itself, has.
fn of_context(body: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let context = body.get("context").and_then(Value::as_object);
    let found = names.iter().find_map(|name| {
        let inside = context.and_then(|context| context.get(*name));
        inside.or_else(|| body.get(*name))?.as_str().filter(|text| !text.is_empty())
    });
    found.map(str::to_owned)
}

fn app(body: &Map<String, Value>) -> Option<String> {
    let resource = body.get("bind_resource").and_then(Value::as_object);
    let guid = resource.and_then(|resource| resource.get("app_guid")).or_else(|| body.get("app_guid"));
    guid.and_then(Value::as_str)
        .map(str::to_owned)
        .or_else(|| of_context(body, &["app_name", "instance_name"]))
}
