//! Whatever a broker answers directly it answers through standpipe: the cases of both public checkers and more, tried at
//! real brokers in every way that standpipe puts itself in between.

mod cases;
mod compare;
mod own;
pub mod platform;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::OnceLock;

use serde_json::{Value, json};

use self::cases::Suite;
use self::compare::{Differences, Face};
use self::platform::{Ask, Login, Platform};
use crate::support::{House, LOGIN, Library, ServiceBroker, Standpipe, password_hash, until};

/// How a platform logs in at standpipe: not as standpipe does at brokers.
pub const PLATFORM: (&str, &str) = ("platform", "the platform's own passw0rd");

/// What a broker gets wrong by itself: a part of the cases' names, how it answers, and why. The verdict must be the same
/// through standpipe.
const SHORTCOMINGS: [(Library, &str, &str); 4] = [
    // OC wants a last `succeeded`, OK wants 410; this broker forgets at once, as OK wants it.
    (Library::BrokerApi, "polled until it has succeeded", "410 instead of"),
    (Library::BrokerApi, "polled with the word deprovision", "410 instead of"),
    // What the specification allows since 2.15.
    (Library::OpenBrokerApi, "without a version", "400 instead of 412"),
    (Library::OpenBrokerApi, "which request it was", "request identity None"),
];

/// All cases at a broker that nothing is in front of; tried once.
fn directly(library: Library) -> Option<&'static Suite> {
    static TRIED: [OnceLock<Option<Suite>>; 2] = [const { OnceLock::new() }; 2];
    let tried = TRIED[library as usize].get_or_init(|| {
        let broker = ServiceBroker::start(library)?;
        Some(Suite::run(Platform { address: broker.address, face: "", login: LOGIN }, &[]))
    });
    tried.as_ref()
}

/// A standpipe in front of these brokers.
pub fn in_front_of(brokers: &[(&str, SocketAddr)], more: &str) -> Standpipe {
    house(brokers, more).run()
}

fn house(brokers: &[(&str, SocketAddr)], more: &str) -> House {
    let mut config = format!(
        "threads = 2\n[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"basic\"]\n[[caller]]\nname = \"{}\"\npassword_hash = \"{}\"\n",
        PLATFORM.0,
        password_hash(PLATFORM.1)
    );
    for (name, address) in brokers {
        config += &format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"osb\"\nurl = \"http://{address}\"\ncredential = {{ kind = \"basic\", username = \"{}\", password = \"file:password\" }}\n{more}\n",
            LOGIN.0
        );
    }
    let house = House::new(&config);
    std::fs::write(house.folder.path().join("password"), LOGIN.1).unwrap();
    house
}

pub fn at(standpipe: &Standpipe, face: &'static str) -> Platform {
    Platform { address: standpipe.address, face, login: PLATFORM }
}

/// The ids of the services that are offered.
pub fn services(platform: &Platform) -> BTreeSet<String> {
    let reply = platform.send(&Ask::new("GET", "/v2/catalog")).reply;
    let catalog = reply.json();
    let services = catalog["services"].as_array().into_iter().flatten();
    services.filter_map(|service| service["id"].as_str()).map(str::to_owned).collect()
}

fn no_differences(directly: &[&Suite], through: &Suite, face: Face) {
    let found = Differences::between(directly, through, face);
    let count = found.others.len();
    assert!(count == 0, "{count} differences:\n{}", found.others[..count.min(20)].join("\n"));
    assert_eq!(found.documented, face.documented(), "what is documented and no longer so must go");
}

fn one_provider(library: Library, face: Face, path: &'static str) {
    let Some(direct) = directly(library) else { return };
    let broker = ServiceBroker::start(library).unwrap();
    let standpipe = in_front_of(&[("broker", broker.address)], "");
    let through = Suite::run(at(&standpipe, path), &[]);
    no_differences(&[direct], &through, face);
}

#[test]
fn the_brokers_are_as_good_as_is_said_here() {
    for library in [Library::BrokerApi, Library::OpenBrokerApi] {
        let Some(direct) = directly(library) else { return };
        let known = || SHORTCOMINGS.iter().filter(|known| known.0 == library);
        let mut met = BTreeSet::new();
        for outcome in &direct.outcomes {
            let Err(why) = &outcome.verdict else { continue };
            let known = known().find(|known| outcome.case.contains(known.1) && why.starts_with(known.2));
            met.insert(
                known
                    .unwrap_or_else(|| {
                        panic!("{}: {} [{}]: {why}", outcome.group, outcome.case, outcome.plan)
                    })
                    .1,
            );
        }
        assert_eq!(met, known().map(|known| known.1).collect(), "a shortcoming that is none any more");
        assert!(direct.outcomes.len() > 300, "{}", direct.outcomes.len());
    }
}

#[test]
fn a_broker_in_go_answers_through_its_own_path_as_it_does_directly() {
    one_provider(Library::BrokerApi, Face::Transparent, "/providers/broker");
}

#[test]
fn a_broker_in_python_answers_through_its_own_path_as_it_does_directly() {
    one_provider(Library::OpenBrokerApi, Face::Transparent, "/providers/broker");
}

#[test]
fn a_broker_in_go_answers_alone_behind_the_one_endpoint_as_it_does_directly() {
    one_provider(Library::BrokerApi, Face::Alone, "");
}

#[test]
fn a_broker_in_python_answers_alone_behind_the_one_endpoint_as_it_does_directly() {
    one_provider(Library::OpenBrokerApi, Face::Alone, "");
}

#[test]
fn two_brokers_behind_one_endpoint_answer_as_they_do_directly() {
    let libraries = [Library::BrokerApi, Library::OpenBrokerApi];
    let [Some(go), Some(python)] = libraries.map(directly) else { return };
    let brokers = libraries.map(|library| ServiceBroker::start(library).unwrap());
    let standpipe = in_front_of(&[("go", brokers[0].address), ("python", brokers[1].address)], "");
    let offered = [go, python]
        .map(|suite| suite.offers.iter().map(|offer| offer.service_id().to_owned()).collect::<BTreeSet<_>>());
    let both = &offered[0] | &offered[1];
    until("both catalogs are known", || services(&at(&standpipe, "")) == both);
    let through = Suite::run(at(&standpipe, ""), &offered);
    no_differences(&[go, python], &through, Face::Merged);
    catalogs_are_merged(&at(&standpipe, ""), [go, python]);
}

/// Nothing of a service is changed, added or left out by merging, numbers to the last digit.
fn catalogs_are_merged(platform: &Platform, suites: [&Suite; 2]) {
    let merged = platform.send(&Ask::new("GET", "/v2/catalog")).reply;
    for suite in suites {
        for offer in &suite.offers {
            let catalog = merged.json();
            let services: Vec<&Value> = catalog["services"].as_array().unwrap().iter().collect();
            assert!(services.contains(&&offer.service), "{}", offer.service);
        }
    }
    let text = String::from_utf8(merged.body).unwrap();
    for number in ["123456789012345678901234567890", "1e-07", "0.06"] {
        assert!(text.contains(number), "{number} in {text}");
    }
}

#[test]
fn an_instance_of_one_broker_and_a_service_of_another_is_the_one_conflict_that_is_told_here() {
    let libraries = [Library::BrokerApi, Library::OpenBrokerApi];
    let [Some(go), Some(python)] = libraries.map(directly) else { return };
    let brokers = libraries.map(|library| ServiceBroker::start(library).unwrap());
    let standpipe = in_front_of(&[("go", brokers[0].address), ("python", brokers[1].address)], "");
    let platform = at(&standpipe, "");
    until("both catalogs are known", || services(&platform).len() == 4);
    let bodies = [go, python].map(|suite| {
        let offer = &suite.offers[0];
        json!({
            "service_id": offer.service_id(), "plan_id": offer.plan_id(), "organization_guid": "o", "space_guid": "s",
        })
    });
    let send = |method, path: &str, body: &Value| platform.send(&Ask::new(method, path).body(body)).reply;
    let (instance, binding) =
        ("/v2/service_instances/swapped", "/v2/service_instances/swapped/service_bindings/b");
    assert_eq!(send("PUT", instance, &bodies[0]).status, 201);
    assert_eq!(send("PUT", binding, &bodies[0]).status, 201);
    for path in [instance, binding] {
        let reply = send("PUT", path, &bodies[1]);
        assert_eq!((reply.status, reply.json().is_object()), (409, true), "{path}");
        assert_eq!(send("PUT", path, &bodies[0]).status, 200, "it is where it was");
    }
    let directly = Platform { address: brokers[1].address, face: "", login: LOGIN };
    let at_the_other = directly.send(&Ask::new("GET", instance).login(Login::Right)).reply;
    assert_eq!(at_the_other.status, 404, "the other broker has heard nothing of it");
}

#[test]
fn after_a_crash_an_operation_is_asked_after_where_it_is_under_way() {
    let libraries = [Library::BrokerApi, Library::OpenBrokerApi];
    let [Some(go), Some(python)] = libraries.map(directly) else { return };
    let brokers = libraries.map(|library| ServiceBroker::start(library).unwrap());
    let house = house(&[("go", brokers[0].address), ("python", brokers[1].address)], "");
    let mut standpipe = house.serve();
    until("both catalogs are known", || services(&at(&standpipe, "")).len() == 4);
    for (name, suite) in [("go", go), ("python", python)] {
        let slow =
            suite.offers.iter().find(|offer| offer.plan["maximum_polling_duration"].is_number()).unwrap();
        let body = json!({
            "service_id": slow.service_id(), "plan_id": slow.plan_id(), "organization_guid": "o", "space_guid": "s",
        });
        let ask =
            Ask::new("PUT", format!("/v2/service_instances/{name}?accepts_incomplete=true")).body(&body);
        assert_eq!(at(&standpipe, "").send(&ask).reply.status, 202);
    }
    standpipe.kill();
    let standpipe = house.serve();
    for name in ["go", "python"] {
        let poll = Ask::new("GET", format!("/v2/service_instances/{name}/last_operation"));
        for state in ["in progress", "in progress", "succeeded"] {
            let reply = at(&standpipe, "").send(&poll).reply;
            assert_eq!((reply.status, &*reply.text("state")), (200, state), "{name}");
            assert_eq!(reply.field("standpipe-provider"), Some(name));
        }
    }
}

/// Alters the outcome with this number.
type Spoil<'a> = &'a dyn Fn(&mut Suite, usize);

#[test]
fn no_difference_is_too_small_to_be_noticed() {
    let Some(direct) = directly(Library::BrokerApi) else { return };
    let spoiled = |spoil: &dyn Fn(&mut Suite)| {
        let mut suite = direct.clone();
        spoil(&mut suite);
        Differences::between(&[direct], &suite, Face::Transparent).others.len()
    };
    let of = |suite: &mut Suite| {
        suite.outcomes.iter().position(|it| it.case.contains("retrieve instance: 200")).unwrap()
    };
    assert_eq!(spoiled(&|_| {}), 0);
    let spoils: [Spoil<'_>; 7] = [
        &|suite, at| suite.outcomes[at].exchanges[0].reply.body.push(b' '),
        &|suite, at| suite.outcomes[at].exchanges[0].reply.status = 200,
        &|suite, at| suite.outcomes[at].exchanges[0].reply.fields.push(("x-more".to_owned(), "1".to_owned())),
        &|suite, at| suite.outcomes[at].exchanges[0].reply.fields.retain(|field| field.0 != "content-type"),
        &|suite, at| drop(suite.outcomes[at].exchanges.pop()),
        &|suite, at| suite.outcomes[at].verdict = Err("no".to_owned()),
        &|suite, at| drop(suite.outcomes.remove(at)),
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let found = spoiled(&|suite: &mut Suite| {
            let at = of(suite);
            spoil(suite, at);
        });
        assert_eq!(found, 1, "{number}");
    }
}
