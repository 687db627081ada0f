//! What is promised of providers registered at run time.

use standpipe_api::{Availability, NewEvent};

use super::*;
use crate::store::{Held, KeptProvider, Removal, SecretBytes};

fn text(text: &str) -> SecretBytes {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn event() -> NewEvent {
    NewEvent::new("provider.changed", &"")
}

fn kept(name: &str, registration: Option<&str>, availability: Availability) -> KeptProvider {
    KeptProvider { name: name.into(), registration: registration.map(text), availability }
}

pub(in crate::store) async fn providers_are_kept_in_the_order_of_their_registration(store: Shared) {
    for (name, registration) in [("zeta", "one"), ("alpha", "two"), ("beta", "three"), ("alpha", "four")] {
        store.register_provider(name.into(), text(registration), event()).await.unwrap();
    }
    store.set_availability("alpha".into(), Availability::Draining, event()).await.unwrap();
    store.set_availability("zeta".into(), Availability::Active, event()).await.unwrap();
    store.register_provider("alpha".into(), text("five"), event()).await.unwrap();
    let (active, draining) = (Availability::Active, Availability::Draining);
    let wanted = [
        kept("zeta", Some("one"), active),
        kept("alpha", Some("five"), draining),
        kept("beta", Some("three"), active),
    ];
    assert_eq!(store.kept_providers().await.unwrap(), wanted, "an update keeps place and availability");
    assert_eq!(
        store.remove_provider("zeta".into(), Removal::WhenEmpty, event()).await.unwrap(),
        Held::default()
    );
    store.register_provider("zeta".into(), text("six"), event()).await.unwrap();
    let names: Vec<_> = store.kept_providers().await.unwrap().into_iter().map(|kept| kept.name).collect();
    assert_eq!(names, ["alpha".into(), "beta".into(), "zeta".into()], "who comes back comes last");
}

pub(in crate::store) async fn a_configured_provider_is_kept_only_while_it_drains(store: Shared) {
    let drains = |availability| store.set_availability("alpha".into(), availability, event());
    drains(Availability::Draining).await.unwrap();
    let row = kept("alpha", None, Availability::Draining);
    assert_eq!(store.kept_providers().await.unwrap(), [row]);
    drains(Availability::Active).await.unwrap();
    assert_eq!(store.kept_providers().await.unwrap(), []);
}

pub(in crate::store) async fn a_provider_with_mappings_is_removed_only_by_force(store: Shared) {
    store.register_provider("alpha".into(), text("one"), event()).await.unwrap();
    store.set_availability("alpha".into(), Availability::Draining, event()).await.unwrap();
    let mut gone = live("gone");
    gone.state = MappingState::Gone;
    let mut past = live("past");
    past.expires_at = ended();
    let mut elsewhere = live("elsewhere");
    elsewhere.provider = "beta".into();
    let rows = (0..7).map(|number| live(&number.to_string())).chain([gone, past, elsewhere]);
    store.apply(rows.map(Write::Put).collect()).await.unwrap();
    let held = Held { count: 7, some: ["0", "1", "2", "3", "4"].map(pipe).to_vec() };
    assert_eq!(store.held(&"alpha".into()).await.unwrap(), held);
    assert_eq!(store.remove_provider("alpha".into(), Removal::WhenEmpty, event()).await.unwrap(), held);
    assert_eq!(store.kept_providers().await.unwrap().len(), 1);
    assert_eq!(*store.last_event().borrow(), 2, "nothing has happened");
    assert_eq!(store.remove_provider("alpha".into(), Removal::Forced, event()).await.unwrap(), held);
    assert_eq!(store.kept_providers().await.unwrap(), []);
    assert_eq!(*store.last_event().borrow(), 3);
    assert_eq!(store.count().await.unwrap(), 9, "what led there stays");
    store.register_provider("alpha".into(), text("two"), event()).await.unwrap();
    let again = kept("alpha", Some("two"), Availability::Active);
    assert_eq!(store.kept_providers().await.unwrap(), [again], "nothing is left of the one before");
}
