//! Which events of the feed a caller sees.

use standpipe_api::{Caller, Event, EventPage, Resource, Scope};

use super::Access;

impl Access {
    /// What a caller sees of a page, at most `limit` events.
    pub fn shown(&self, caller: &Caller, page: EventPage, limit: usize) -> EventPage {
        let EventPage { events, mut next, oldest } = page;
        let mut shown: Vec<Event> = events.into_iter().filter(|event| self.shows(caller, event)).collect();
        if shown.len() > limit {
            shown.truncate(limit);
            next = shown.last().map_or(next, |event| event.revision);
        }
        for event in &mut shown {
            // Who else there is belongs on the operator's socket (decision 9).
            event.owner.take_if(|owner| *owner != caller.id);
        }
        EventPage { events: shown, next, oldest }
    }

    /// Its own events, always. Others only of a provider and resource it sees, and, for a caller with a tenant, only its
    /// tenant's and those that are nobody's. Where callers choose ids, what is within another tenant is not to be read by
    /// anybody else, whatever rules say, and so nothing is told of it.
    fn shows(&self, caller: &Caller, event: &Event) -> bool {
        if event.owner.as_ref() == Some(&caller.id) {
            return true;
        }
        let nobodys = event.owner.is_none() && event.tenant.is_none();
        let ours = caller.tenant.is_none() || nobodys || event.tenant == caller.tenant;
        let own = caller.tenant.as_deref().unwrap_or_default();
        let in_reach = |subject: &Resource| subject.scope == Scope::SHARED || subject.scope.as_str() == own;
        let seen = match (&event.provider, &event.subject) {
            (Some(provider), Some(subject)) => {
                in_reach(subject) && self.sees(Some(caller), provider, std::slice::from_ref(subject))
            }
            (Some(provider), None) => self.sees_provider(Some(caller), provider),
            (None, _) => event.tenant.is_some() && event.tenant == caller.tenant,
        };
        ours && seen
    }
}

#[cfg(test)]
mod tests {
    use standpipe_api::{Kind, NewEvent, Timestamp};

    use super::super::tests::{access, caller};
    use super::*;

    fn instance(id: &str) -> NewEvent {
        NewEvent::new("instance.created", &id).about(Resource::new(Kind::of("instance"), id))
    }

    fn page(events: Vec<NewEvent>) -> EventPage {
        let at = Timestamp::from_millis(0);
        let events: Vec<Event> =
            (1..).zip(events).map(|(revision, event)| event.written(revision, at)).collect();
        EventPage { next: events.len() as u64, events, oldest: 1 }
    }

    fn revisions(page: &EventPage) -> Vec<u64> {
        page.events.iter().map(|event| event.revision).collect()
    }

    #[test]
    fn a_caller_sees_its_own_its_tenants_and_what_is_nobodys_at_providers_it_sees() {
        let rules = access("[[access]]\nproviders = [\"alpha\"]\nresources = [\"a*\"]");
        let (ann, bob) = (caller("basic:ann", Some("blue"), &[]), caller("basic:bob", Some("red"), &[]));
        let (eve, lone) = (caller("basic:eve", Some("blue"), &[]), caller("basic:lone", None, &[]));
        let events = vec![
            instance("a1").at("alpha".into()).of(&ann),
            instance("b2").at("beta".into()).of(&ann),
            instance("b3").at("alpha".into()).of(&eve),
            instance("a4").at("alpha".into()).of(&eve),
            instance("a5").at("alpha".into()).of(&bob),
            NewEvent::new("provider.added", &()).at("alpha".into()),
            NewEvent::new("provider.added", &()).at("beta".into()),
            NewEvent::new("addon.added", &()).of(&eve),
            NewEvent::new("other", &()),
            instance("a10").at("alpha".into()).of(&lone),
        ];
        let seen = |caller: &Caller| revisions(&rules.shown(caller, page(events.clone()), 100));
        assert_eq!(seen(&ann), [1, 2, 4, 6, 8], "what was its own stays its own, also when no rule shows it");
        assert_eq!(seen(&bob), [5, 6]);
        assert_eq!(seen(&lone), [1, 4, 5, 6, 10], "without a tenant, what rules show");
        assert_eq!(seen(&caller("basic:kim", Some("green"), &[])), [6]);
    }

    #[test]
    fn what_is_within_a_tenant_is_told_to_nobody_outside() {
        let ann = caller("basic:ann", Some("blue"), &[]);
        let (eve, lone) = (caller("basic:eve", Some("blue"), &[]), caller("basic:lone", None, &[]));
        let bob = caller("basic:bob", Some("red"), &[]);
        let within = |scope| Resource { scope, ..Resource::new(Kind::of("instance"), "i") };
        let event = |scope, whose| {
            NewEvent::new("instance.created", &()).about(within(scope)).at("alpha".into()).of(whose)
        };
        let events = vec![event(Scope::tenant("blue"), &ann), event(Scope::SHARED, &lone)];
        for rules in [Access::default(), access("[[access]]\nproviders = [\"alpha\"]")] {
            let seen = |caller: &Caller| revisions(&rules.shown(caller, page(events.clone()), 100));
            assert_eq!((seen(&ann), seen(&eve)), (vec![1], vec![1]));
            assert_eq!(seen(&lone), [2], "an id of the tenant's is not to be had without one");
            assert_eq!(seen(&caller("basic:kim", None, &[])), [2]);
            assert_eq!(seen(&bob), [0; 0]);
        }
    }

    #[test]
    fn a_page_goes_on_behind_what_was_left_out_and_not_behind_what_did_not_fit() {
        let rules = access("[[access]]\nproviders = [\"alpha\"]");
        let kim = caller("basic:kim", None, &[]);
        let events =
            |names: &[&str]| page(names.iter().map(|name| instance("a").at((*name).into())).collect());
        let hidden = rules.shown(&kim, events(&["alpha", "beta", "beta"]), 1);
        assert_eq!((revisions(&hidden), hidden.next), (vec![1], 3));
        let cut = rules.shown(&kim, events(&["beta", "alpha", "beta", "alpha"]), 1);
        assert_eq!((revisions(&cut), cut.next), (vec![2], 2));
    }

    #[test]
    fn a_caller_is_not_told_who_else_calls() {
        let (ann, eve) = (caller("basic:ann", None, &[]), caller("basic:eve", None, &[]));
        let events =
            vec![instance("a").at("alpha".into()).of(&ann), instance("b").at("alpha".into()).of(&eve)];
        let shown = Access::default().shown(&ann, page(events), 10);
        let owners: Vec<_> = shown.events.iter().map(|event| event.owner.as_ref()).collect();
        assert_eq!(owners, [Some(&ann.id), None]);
    }
}
