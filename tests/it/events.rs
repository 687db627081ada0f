//! The feed over real sockets, and what is added up from it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use standpipe::store::{DataDirLock, MasterKey, Options, Sqlite, Store as _, Write};
use standpipe_api::{Caller, Kind, NewEvent, Resource};

use crate::access::{As, configuration};
use crate::support::{House, Standpipe, Wire, until};

/// Nobody answers there; these tests ask no provider.
const NOWHERE: &str = "127.0.0.1:9";

fn house(more: &str) -> House {
    House::new(&configuration(&[("alpha", NOWHERE.parse().unwrap(), "\"db\"")], more))
}

fn blue() -> Caller {
    Caller { id: "basic:ann".into(), tenant: Some("blue".into()), groups: Vec::new(), authenticator: "basic" }
}

fn instance(kind: &'static str, id: &str, costs: &str) -> NewEvent {
    let costs: Value = serde_json::from_str(costs).unwrap();
    let payload = json!({ "instance": id, "provider": "alpha", "tenant": "blue", "costs": costs });
    NewEvent::new(kind, &payload)
        .about(Resource::new(Kind::of("service_instance"), id))
        .at("alpha".into())
        .of(&blue())
}

/// Writes into the file while no server has it.
fn write(house: &House, events: Vec<NewEvent>) {
    on_file(house, |store, runtime| {
        let writes = events.into_iter().map(Write::Event).collect();
        runtime.block_on(store.apply(writes)).unwrap();
    });
}

/// Looks into the file while no server has it.
pub fn on_file(house: &House, work: impl FnOnce(&Sqlite, &tokio::runtime::Runtime)) {
    let data = house.folder.path().join("standpipe-data");
    let _lock = DataDirLock::take(&data).unwrap();
    let key = MasterKey::in_file(&data.join("master.key")).unwrap();
    let store = Sqlite::open(&data, &key, &Options::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    work(&store, &runtime);
}

/// Changes the provider's url, which is an event once it is reloaded.
fn change(config: &Path, standpipe: &Standpipe, port: usize) {
    let text = std::fs::read_to_string(config).unwrap();
    let (before, rest) = text.split_once("url = \"http://127.0.0.1:").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    std::fs::write(config, format!("{before}url = \"http://127.0.0.1:{port}\"{after}")).unwrap();
    standpipe.signal("-HUP");
}

fn told(page: &Value) -> Vec<String> {
    let events = page["events"].as_array().unwrap_or_else(|| panic!("{page}"));
    events.iter().map(|event| format!("{} {}", event["revision"], event["kind"].as_str().unwrap())).collect()
}

/// A stream of events as ann, behind its head and the first sign of life.
fn follow(standpipe: &Standpipe, fields: &str) -> Wire {
    let mut wire = Wire::connect(standpipe.address);
    wire.send(format!(
        "GET /events HTTP/1.1\r\nhost: a\r\nauthorization: Basic YW5uOng=\r\naccept: text/event-stream\r\n{fields}\r\n"
    ));
    let head = wire.upto("\r\n\r\n").unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    wire.upto("\n\n").unwrap();
    wire
}

/// The id and kind of the next event of a stream; `None` at its end.
fn next(wire: &mut Wire) -> Option<String> {
    loop {
        let part = wire.upto("\n\n")?;
        let line = |name: &str| part.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let (Some(id), Some(kind), Some(data)) = (line("id"), line("event"), line("data")) {
            let data: Value = serde_json::from_str(data).unwrap();
            assert_eq!((data["revision"].to_string().as_str(), data["kind"].as_str()), (id, Some(kind)));
            return Some(format!("{id} {kind}"));
        }
    }
}

#[test]
fn a_stream_and_a_wait_hear_of_what_happens_and_a_stream_ends_with_standpipe() {
    let house = house("");
    let mut standpipe = house.serve();
    let ann = As(&standpipe, "ann");
    let page = ann.get("/events?after=0");
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")), "{page:?}");
    assert_eq!(told(&page.json()), ["1 provider.added"]);
    let mut stream = follow(&standpipe, "");
    let mut missed = follow(&standpipe, "last-event-id: 0\r\n");
    assert_eq!(next(&mut missed).unwrap(), "1 provider.added");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| ann.get("/events?after=1&wait=30s"));
        change(&house.config, &standpipe, 10);
        let page = waiting.join().unwrap().json();
        assert_eq!((told(&page), &page["next"]), (vec!["2 provider.updated".to_owned()], &json!(2)));
    });
    for wire in [&mut stream, &mut missed] {
        assert_eq!(next(wire).unwrap(), "2 provider.updated");
    }
    assert_eq!(standpipe.get("/events").status, 401, "not for everybody");
    standpipe.signal("-TERM");
    assert_eq!(next(&mut stream), None, "it ends, so that the process can");
    standpipe.ended();
}

#[test]
fn what_was_told_once_is_told_again_in_the_same_order_after_every_kill() {
    let house = house("");
    let mut seen = vec!["1 provider.added".to_owned()];
    for round in 0..4 {
        let mut standpipe = house.serve();
        let mut stream = follow(&standpipe, "");
        for turn in 0..round + 2 {
            change(&house.config, &standpipe, 100 + round * 10 + turn);
            seen.push(next(&mut stream).unwrap());
        }
        standpipe.kill();
    }
    let standpipe = house.serve();
    assert_eq!(
        told(&As(&standpipe, "ann").get("/events?after=0").json()),
        seen,
        "nothing new, nothing twice"
    );
    let revisions: Vec<u64> =
        seen.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(revisions.is_sorted_by(|one, next| one < next), "{revisions:?}");
}

#[test]
fn who_comes_too_late_is_told_where_to_go_on() {
    let house = house("");
    drop(house.serve());
    write(&house, (0..5).map(|_| instance("instance.created", "i", "[]")).collect());
    on_file(&house, |store, runtime| {
        let now = standpipe_api::Timestamp::now();
        assert_eq!(
            runtime.block_on(store.purge_events(now.plus(Duration::from_secs(1)), 100, 3)).unwrap(),
            3
        );
    });
    let standpipe = house.serve();
    let ann = As(&standpipe, "ann");
    let gone = ann.get("/events?after=1");
    assert_eq!((gone.status, gone.header("content-type")), (410, Some("application/problem+json")));
    assert_eq!((&gone.json()["oldest"], &gone.json()["last"]), (&json!(4), &json!(6)), "{gone:?}");
    let headers = [("accept", "text/event-stream"), ("last-event-id", "1")];
    assert_eq!(ann.call("GET", "/events", &headers, "").status, 410);
    assert_eq!(told(&ann.get("/events?after=3").json()).len(), 3);
    let ahead = ann.get("/events?after=7");
    assert_eq!(ahead.status, 410, "of another database, or an older copy of this one: {ahead:?}");
}

#[test]
fn callers_follow_what_they_see_and_operators_all() {
    let rules = "[[access]]\ntenants = [\"blue\"]\nkinds = [\"service_instance\"]\n[[access]]\ncallers = [\"basic:bob\"]\nproviders = [\"beta\"]\n[[access]]\ngroups = [\"ops\"]\n";
    let nowhere = NOWHERE.parse().unwrap();
    let house =
        House::new(&configuration(&[("alpha", nowhere, "\"db\""), ("beta", nowhere, "\"web\"")], rules));
    drop(house.serve());
    let red =
        instance("instance.created", "theirs", "[]").owned(Some("basic:eve".into()), Some("red".into()));
    write(&house, vec![instance("instance.created", "ours", "[]"), red]);
    let standpipe = house.serve();
    let seen = |name| {
        let page = As(&standpipe, name).get("/events?after=0").json();
        assert_eq!(page["next"], 4, "also past what is not shown");
        told(&page)
    };
    assert_eq!(seen("ann"), ["1 provider.added", "2 provider.added", "3 instance.created"]);
    assert_eq!(seen("bob"), ["2 provider.added"]);
    assert_eq!(seen("root").len(), 4);
    let all = admin(&house, "/events?after=0");
    assert_eq!(told(&all).len(), 4);
    assert_eq!(all["events"][3]["owner"], "basic:eve");
    let roots = As(&standpipe, "root").get("/events?after=0");
    assert!(!roots.body.contains("basic:"), "who else calls is the operator's to know: {roots:?}");
}

fn admin(house: &House, path: &str) -> Value {
    let socket = house.folder.path().join("standpipe-data/admin.sock");
    let mut wire = Wire::new(std::os::unix::net::UnixStream::connect(socket).unwrap());
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    serde_json::from_str(wire.rest().split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn usage_is_added_up_from_the_file_and_through_a_server() {
    let house = house("");
    drop(house.serve());
    let hourly =
        r#"[{"amount":{"usd":0.06},"unit":"HOURLY"},{"amount":{"usd":0.99},"unit":"1GB over 20GB"}]"#;
    // More events than a page.
    let mut events: Vec<NewEvent> =
        (0..70).map(|id| instance("instance.created", &id.to_string(), hourly)).collect();
    events.extend((0..70).map(|id| instance("instance.deleted", &id.to_string(), "[]")));
    write(&house, events);
    let usage = |more: &[&str]| {
        let (code, text) = house.command(&[&["usage", "--by", "team"], more].concat());
        assert_eq!(code, 0, "{text}");
        text
    };
    let from_file = usage(&[]);
    let row = from_file.lines().nth(1).unwrap();
    assert!(from_file.starts_with("TEAM  INSTANCES  HOURS"), "{from_file}");
    assert!(
        row.starts_with("blue  70 ") && row.contains(" usd") && row.ends_with("0.99 usd per 1GB over 20GB"),
        "{from_file}"
    );
    assert_eq!(from_file.lines().count(), 2, "nothing was purged: {from_file}");
    let standpipe = house.serve();
    assert_eq!(usage(&[]), from_file, "all have ended, so that time changes nothing");
    let csv = usage(&["--format", "csv"]);
    assert!(csv.starts_with("team,instances,hours,currency,cost,not_included\r\nblue,70,0.0"), "{csv}");
    let json: Value = serde_json::from_str(&usage(&["--format", "json"])).unwrap();
    assert_eq!((&json["usage"][0]["team"], &json["usage"][0]["instances"]), (&json!("blue"), &json!(70)));
    assert!(json["usage"][0]["costs"]["usd"].is_string(), "{json}");
    drop(standpipe);
    on_file(&house, |store, runtime| {
        let now = standpipe_api::Timestamp::now();
        assert_eq!(
            runtime.block_on(store.purge_events(now.plus(Duration::from_secs(1)), 1000, 31)).unwrap(),
            31
        );
    });
    let later = usage(&[]);
    assert!(
        later.contains("blue  40 ")
            && later.contains("The figures begin")
            && later.contains("\nOf 30 deleted or changed instances"),
        "{later}"
    );
    let text = usage(&["--format", "json", "--to", "2999-01-01T00:00:00Z"]);
    // Behind it stands what the figures leave out.
    let json = serde_json::Deserializer::from_str(&text).into_iter::<Value>().next().unwrap().unwrap();
    let to: standpipe_api::Timestamp = serde_json::from_value(json["to"].clone()).unwrap();
    assert!(to <= standpipe_api::Timestamp::now(), "nothing is charged for time that has not been: {json}");
    for backwards in
        [&["2999-01-01T00:00:00Z"][..], &["2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"]]
    {
        let (code, text) = house.command(&[&["usage", "--by", "team", "--from"], backwards].concat());
        assert!(code == 1 && text.contains("--from must be before --to and before now"), "{text}");
    }
    let (code, text) = house.command(&["usage", "--by", "team", "--from", "yesterday"]);
    assert!(code == 2 && text.contains("2026-01-31T00:00:00Z"), "{text}");
}

#[test]
fn a_follower_who_does_not_read_is_cut_off() {
    let house = house("[limits]\nidle = \"1s\"\n[extensions.events]\nfollowers = 1\n");
    drop(house.serve());
    let large = "x".repeat(16_000);
    // More than what sockets hold on both sides.
    for _ in 0..20 {
        write(&house, (0..50).map(|_| NewEvent::new("large", &large).at("alpha".into())).collect());
    }
    let standpipe = house.serve();
    let mut stream = Wire::connect(standpipe.address);
    stream.send("GET /events?after=0 HTTP/1.1\r\nhost: a\r\nauthorization: Basic YW5uOng=\r\naccept: text/event-stream\r\n\r\n");
    stream.upto("\r\n\r\n").unwrap();
    let ann = As(&standpipe, "ann");
    assert_eq!(ann.get("/events?wait=1s").status, 503, "its place is taken");
    until("its place is free", || ann.get("/events?wait=1s").status == 200);
    drop(stream);
}
