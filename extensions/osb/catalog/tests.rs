use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use standpipe_api::{Availability, ProviderId, testing};

use super::names::Names;
use super::snapshot::{BadCatalog, Snapshot};
use super::{Catalogs, Generation, Member, Merged, View, merge};

fn service(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "description": "d", "bindable": true, "plans": [
        {"id": format!("{id}-small"), "name": "small", "description": "d"},
    ]})
}

fn member(name: &str, prefix: &str, services: &[Value]) -> Member {
    let body = json!({ "services": services }).to_string();
    Member {
        snapshot: Some(Arc::new(Snapshot::read(Bytes::from(body)).unwrap())),
        prefix: prefix.into(),
        ..Member::new(testing::provider(name, "osb"))
    }
}

fn merged(members: Vec<Member>) -> Value {
    let names = Names::default().with(&members);
    let body = Merged::of(&Generation::new(members, names), &View::default()).body;
    serde_json::from_slice(&body).unwrap()
}

fn refusal(body: &str) -> BadCatalog {
    Snapshot::read(Bytes::from(body.to_owned())).unwrap_err()
}

#[test]
fn what_a_broker_wrote_stays_as_it_wrote_it() {
    let text = r#"{"services":[{ "zeta":1.10e2, "name":"db","id":"s","description":"d","bindable":true,
        "metadata":{"n":12345678901234567890.000,"a":null}, "plans":[{"id":"p","name":"n","description":"x","free":false}]}]}"#;
    let mut one = member("alpha", "", &[]);
    one.snapshot = Some(Arc::new(Snapshot::read(Bytes::from(text)).unwrap()));
    let generation = Generation::new(vec![one.clone()], Names::default().with(&[one]));
    let body = Merged::of(&generation, &View::default()).body;
    assert_eq!(body, text);
}

#[test]
fn a_second_service_of_a_name_gets_another_and_keeps_it() {
    let members = vec![member("alpha", "", &[service("a", "db")]), member("beta", "", &[service("b", "db")])];
    let names = Names::default().with(&members);
    let shown = merged(members.clone());
    assert_eq!(shown["services"][0]["name"], "db");
    assert_eq!(shown["services"][1]["name"], "db-beta");
    assert_eq!(shown["services"][1]["id"], "b");
    // Alpha's goes, and comes back: nobody got its name meanwhile.
    let alone = vec![member("beta", "", &[service("b", "db")])];
    let later = names.with(&alone).with(&members);
    let body = Merged::of(&Generation::new(alone, later), &View::default()).body;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["services"][0]["name"], "db-beta");
}

#[test]
fn whoever_steps_in_for_another_has_its_name() {
    let members = vec![member("alpha", "", &[service("a", "db")]), member("beta", "", &[service("a", "db")])];
    let names = Names::default().with(&members);
    let beta = vec![members[1].clone()];
    let later = names.with(&beta);
    let body = Merged::of(&Generation::new(beta, later), &View::default()).body;
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["services"][0]["name"], "db");
}

#[test]
fn a_broker_that_changes_its_names_for_ever_does_not_fill_the_record() {
    let name = |of: &Value, names: &Names| {
        let beta = member("beta", "", std::slice::from_ref(of));
        let later = names.clone().with(std::slice::from_ref(&beta));
        let service = beta.snapshot.as_ref().unwrap().services[0].clone();
        later.of(&beta, &service).unwrap().to_owned()
    };
    let many = |count: usize| {
        let services: Vec<Value> =
            (0..count).map(|n| service(&format!("s{n}"), &format!("name-{n}-"))).collect();
        Names::default().with(&[member("alpha", "", &services)])
    };
    let wanted = service("other", "name-5-");
    assert_eq!(name(&wanted, &many(10)), "name-5--beta");
    assert_eq!(name(&wanted, &many(10_001)), "name-5-", "whose it was has long gone");
}

#[test]
fn one_id_is_shown_once_and_only_a_different_offering_is_a_conflict() {
    let same = vec![member("alpha", "", &[service("a", "db")]), member("beta", "", &[service("a", "db")])];
    assert!(merge::hidden(&same).is_empty());
    assert!(merge::shared(&same).contains("a"));
    assert_eq!(merged(same)["services"].as_array().unwrap().len(), 1);
    let other = vec![member("alpha", "", &[service("a", "db")]), member("beta", "", &[service("a", "sql")])];
    let hidden = merge::hidden(&other);
    assert!(merge::shared(&other).is_empty());
    assert_eq!((hidden[0].provider.as_str(), hidden[0].first.as_str()), ("beta", "alpha"));
    assert_eq!(merged(other)["services"][0]["name"], "db");
}

#[test]
fn a_catalog_is_as_deep_as_any_reader_goes_and_no_deeper() {
    let with = |deep: usize| {
        let unknown = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        let text = json!({ "services": [service("a", &"\\\"[{[{".repeat(40))] }).to_string();
        let begin = r#"{"id":"a""#;
        assert!(text.contains(begin));
        let odd = format!(r#"{{"x":{unknown},"id":"a""#);
        Snapshot::read(Bytes::from(text.replacen(begin, &odd, 1)))
    };
    // The catalog, its list and the service are three.
    assert!(with(97).is_ok());
    let refused = with(98).unwrap_err();
    assert_eq!((refused.path.as_str(), &refused.text[..29]), ("$", "it is nested deeper than 100,"));
}

#[test]
fn one_dashboard_client_of_two_brokers_is_told_and_hides_nothing() {
    let with = |id: &str, name: &str, client: &str| {
        let mut service = service(id, name);
        service["dashboard_client"] = json!({"id": client, "secret": "s", "redirect_uri": "u"});
        service
    };
    let alpha = member("alpha", "", &[with("a", "db", "one")]);
    let alike = member("beta", "", &[with("a", "db", "one"), with("b", "mq", "two")]);
    let gamma = member("gamma", "g.", &[with("c", "web", "one"), with("d", "log", "three")]);
    let members = vec![alpha, alike, gamma];
    let told = merge::conflicts(&members);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].0.as_str(), "gamma");
    assert!(told[0].1.starts_with("g.c has the dashboard_client.id of a of alpha"), "{}", told[0].1);
    assert_eq!(merged(members)["services"].as_array().unwrap().len(), 4);
}

#[test]
fn a_prefix_stands_before_ids_of_services_and_plans() {
    let members =
        vec![member("alpha", "", &[service("a", "db")]), member("beta", "b.", &[service("a", "sql")])];
    let shown = merged(members);
    assert_eq!(shown["services"][1]["id"], "b.a");
    assert_eq!(shown["services"][1]["plans"][0]["id"], "b.a-small");
    assert_eq!(shown["services"][1]["plans"][0]["description"], "d");
}

#[test]
fn an_id_leads_to_the_first_that_has_it_and_then_to_who_had_it() {
    let catalogs = Catalogs::default();
    let mut old = member("alpha", "", &[]);
    old.withdrawn = Arc::new(["a".to_owned()].into());
    let members = vec![old, member("beta", "", &[service("a", "db")])];
    catalogs.replace(Generation::new(members, Names::default()));
    let both: [ProviderId; 2] = ["alpha".into(), "beta".into()];
    let only_alpha = |id: &ProviderId| *id == both[0];
    assert_eq!(catalogs.first_with("a", &both, &|_| true), Some("beta".into()));
    assert_eq!(catalogs.first_with("a", &both[..1], &only_alpha), Some("alpha".into()));
    assert_eq!(catalogs.first_with("b", &both, &|_| true), None);
}

#[test]
fn an_id_stays_with_one_that_drains_and_only_the_same_offering_steps_in() {
    let drained = |others: &[(&str, &str)]| {
        let mut alpha = member("alpha", "", &[service("a", "db")]);
        alpha.provider.availability = Availability::Draining;
        let others = others.iter().map(|(name, offers)| member(name, "", &[service("a", offers)]));
        let members: Vec<Member> = std::iter::once(alpha).chain(others).collect();
        let hidden: Vec<String> =
            merge::hidden(&members).into_iter().map(|one| one.provider.to_string()).collect();
        let candidates: Vec<ProviderId> = members[1..].iter().map(|one| one.provider.id.clone()).collect();
        let catalogs = Catalogs::default();
        catalogs.replace(Generation::new(members.clone(), Names::default()));
        let leads = catalogs.first_with("a", &candidates, &|_| true).unwrap().to_string();
        let unseen = catalogs.first_with("a", &candidates, &|id| candidates.contains(id)).unwrap();
        assert_eq!(unseen, candidates[0], "to whom alpha is not there, the id is the next one's");
        let shown = merged(members)["services"].as_array().unwrap().len();
        (shown, leads, hidden)
    };
    assert_eq!(drained(&[("beta", "sql")]), (0, "alpha".into(), vec!["beta".into()]));
    assert_eq!(drained(&[("beta", "db")]), (1, "beta".into(), vec![]));
    assert_eq!(drained(&[("beta", "sql"), ("gamma", "db")]), (1, "gamma".into(), vec!["beta".into()]));
}

#[test]
fn a_bad_catalog_is_refused_by_its_place() {
    let good = service("a", "db");
    let with = |change: fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        refusal(&json!({ "services": [good.clone(), bad] }).to_string())
    };
    assert_eq!(refusal("[]").path, "$");
    assert_eq!(refusal("{}").text, "`services` is missing");
    assert_eq!(refusal(r#"{"services":{}}"#).path, "$.services");
    assert_eq!(with(|bad| bad["id"] = json!(7)).path, "$.services[1].id");
    assert_eq!(with(|_| ()).text, "another service has it too");
    assert_eq!(
        with(|bad| {
            bad["id"] = json!("b");
            bad["name"] = json!("b");
            bad["plans"][0]["id"] = json!("");
        })
        .path,
        "$.services[1].plans[0].id"
    );
    assert_eq!(with(|bad| bad["plans"] = json!([])).path, "$.services[1].plans");
    let mut packed = http::Response::new(Bytes::from(json!({ "services": [good] }).to_string()));
    let headers = http::HeaderMap::from_iter([(http::header::CONTENT_ENCODING, "gzip".parse().unwrap())]);
    *packed.headers_mut() = headers;
    let refused = Snapshot::of(&packed).unwrap_err().to_string();
    assert!(refused.contains("$: it is compressed"), "{refused}");
    packed.headers_mut().insert(http::header::CONTENT_ENCODING, "identity".parse().unwrap());
    assert!(Snapshot::of(&packed).is_ok());
    let deep = format!("{{\"services\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(refusal(&deep).text, "it is nested deeper than 100, at byte 111");
}
