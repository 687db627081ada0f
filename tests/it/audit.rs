//! How much callers may ask for, how much tenants may have, and what is remembered of what they did.

use crate::access::{As, configuration};
use crate::support::{House, Origin, Standpipe, until};

struct World {
    front: House,
    standpipe: Standpipe,
    _alpha: (House, Standpipe),
}

fn world(more: &str) -> World {
    let house = House::broker("alpha", 0, &["db", "web"]);
    let alpha = house.serve_broker();
    let front = House::new(&configuration(&[("alpha", alpha.address, "\"db\", \"web\"")], more));
    let standpipe = front.serve();
    World { front, standpipe, _alpha: (house, alpha) }
}

fn pipe(id: &str) -> String {
    format!("{{\"id\":\"{id}\"}}")
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let world = world("[limits.caller]\nrequests_per_second = 1\nburst = 2\n");
    let (ann, bob) = (As(&world.standpipe, "ann"), As(&world.standpipe, "bob"));
    // However slow this machine is, nobody asks this often at one a second.
    let refused = (0..1000).map(|_| ann.get("/db/pipes")).find(|answer| answer.status != 200).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{refused:?}");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.body.contains("limits.caller.requests_per_second"), "{refused:?}");
    assert_eq!(bob.get("/db/pipes").status, 200, "another caller is not disturbed");
    assert!(world.front.figure("standpipe_rate_limited_total{reason=\"caller-rate\"}") >= 1.0);
}

#[test]
fn a_tenants_requests_in_flight_are_counted_until_they_end() {
    let slow = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            if request.contains("/slow") {
                until("the test has seen it in flight", || peer.told());
            }
            peer.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]");
        }
    });
    let more = "[limits.tenant]\nin_flight = 1\n";
    let front = House::new(&configuration(&[("alpha", slow.address, "\"db\"")], more));
    let standpipe = front.serve();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| As(&standpipe, "ann").get("/providers/alpha/slow"));
        slow.wait_for(1);
        let refused = As(&standpipe, "ann").get("/db/pipes");
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")), "{refused:?}");
        assert_eq!(As(&standpipe, "bob").get("/db/pipes").status, 200, "bob is of no tenant");
        slow.tell();
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(As(&standpipe, "ann").get("/db/pipes").status, 200, "there is room again");
}

#[test]
fn a_quota_is_reached_and_what_is_deleted_makes_room() {
    let world = world("[[quota]]\nkind = \"pipe\"\ntenants = [\"blue\"]\nmost = 2\n");
    let (ann, bob) = (As(&world.standpipe, "ann"), As(&world.standpipe, "bob"));
    assert_eq!(ann.post("/db/pipes", &pipe("a")).status, 201);
    assert_eq!(ann.post("/web/offers/o/bindings", &pipe("b")).status, 202);
    let over = ann.post("/providers/alpha/db/pipes", &pipe("c"));
    assert_eq!(over.status, 403, "{over:?}");
    assert_eq!(over.json()["detail"], "the tenant blue has 2 resources of the kind pipe, which is its quota");
    assert!(over.json()["advice"].as_str().unwrap().contains("delete one"), "{over:?}");
    assert_eq!(ann.post("/db/pipes", &pipe("a")).status, 409, "the broker speaks for what is there already");
    assert_eq!(ann.post("/db/pipes", "{}").status, 403, "what cannot be counted would be no quota");
    assert_eq!(bob.post("/db/pipes", &pipe("d")).status, 201);
    assert_eq!(ann.delete("/db/pipes/a"), 204);
    assert_eq!(ann.post("/db/pipes", &pipe("c")).status, 201);
    let (_, shown) = world.front.command(&["mappings", "show", "pipe", "c", "--parent", "db"]);
    assert!(shown.lines().any(|line| line.split_whitespace().eq(["tenant", "blue"])), "{shown}");
}

#[test]
fn what_callers_did_and_what_was_refused_is_remembered_without_secrets() {
    let rules = "[[access]]\ncallers = [\"basic:ann\"]\nmethods = [\"GET\", \"POST\"]\n[[access]]\ngroups = [\"ops\"]\n";
    let mut world = world(rules);
    let [ann, bob, root] = ["ann", "bob", "root"].map(|name| As(&world.standpipe, name));
    assert_eq!(ann.post("/db/pipes?token=canary", &pipe("a")).status, 201);
    ann.get("/db/pipes/a");
    assert_eq!(ann.delete("/db/pipes/a?token=canary"), 403);
    assert_eq!(bob.get("/providers/alpha/db/pipes/a").status, 404);
    assert_eq!(root.delete("/db/pipes/a"), 204);
    assert_eq!(world.standpipe.call("DELETE", "/db/pipes/a", &[], "").status, 401);
    let rows = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let list = || world.front.command(&["audit", "list", "--json"]).1;
    until("all events are written", || list().lines().count() >= 4);
    let text = list();
    assert!(!text.contains("canary") && !text.contains("Basic"), "{text}");
    let told: Vec<_> = rows(&text)
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
            let words =
                ["caller", "tenant", "method", "path", "operation", "kind", "provider", "fault", "refused"];
            format!("{} {}", words.map(text).join(" "), row["status"])
        })
        .collect();
    let expected = [
        "basic:ann blue POST /db/pipes create-pipe pipe alpha - - 201",
        "basic:ann blue DELETE /db/pipes/a delete-pipe pipe alpha caller method 403",
        "basic:bob - GET /providers/alpha/db/pipes/a - - alpha caller unseen 404",
        "basic:root - DELETE /db/pipes/a delete-pipe pipe alpha - - 204",
    ];
    assert_eq!(told, expected);
    let (_, table) = world.front.command(&["audit", "list", "--caller", "basic:bob"]);
    assert!(table.starts_with("ID  TIME") && table.contains("access:unseen"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");
    world.standpipe.signal("-TERM");
    world.standpipe.ended();
    assert_eq!(list(), text, "the same from the file");
    let second = rows(&text)[1]["id"].to_string();
    let (_, rest) = world.front.command(&["audit", "list", "--json", "--after", &second, "--limit", "1"]);
    assert_eq!(rows(&rest), rows(&text)[2..3]);
}

#[test]
fn a_change_whose_caller_has_left_is_remembered_with_its_outcome() {
    let slow = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            if request.starts_with("POST") {
                until("the caller has left", || peer.told());
            }
            peer.wire.send("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}");
        }
    });
    let front = House::new(&configuration(&[("alpha", slow.address, "\"db\"")], ""));
    let standpipe = front.serve();
    let body = pipe("a");
    let request = format!(
        "POST /db/pipes HTTP/1.1\r\nhost: a\r\nauthorization: Basic YW5uOng=\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut wire = crate::support::Wire::connect(standpipe.address);
    wire.send(request);
    slow.wait_for(1);
    drop(wire);
    slow.tell();
    until("the event is written", || {
        front
            .command(&["audit", "list"])
            .1
            .lines()
            .any(|line| line.contains("POST") && line.contains(" 201 "))
    });
}

#[test]
fn a_broker_alone_does_not_pretend_to_keep_rules() {
    let broker = House::broker("alpha", 0, &["db"]);
    let mut config = std::fs::read_to_string(&broker.config).unwrap();
    config += "[[access]]\ncallers = [\"anonymous\"]\n";
    std::fs::write(&broker.config, config).unwrap();
    let (code, text) = broker.command(&["broker"]);
    assert!(code == 1 && text.contains("standpipe serve"), "{text}");
}
