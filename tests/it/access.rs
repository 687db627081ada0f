//! Access rules: what a caller may not see is, byte for byte, what does not exist.

use std::net::SocketAddr;

use crate::support::{Answer, House, Standpipe, until};

/// The hash of `x`.
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$4ruBkpkyS/He+GJwyGzZiQ$fQ/ApvMw4L6EZ2KBXD8d/lTmDoDx9QFaGWNqgyf8ZwU";

/// A standpipe in front of brokers, whose callers are ann (tenant blue), bob and root, all with the password `x`.
pub fn configuration(providers: &[(&str, SocketAddr, &str)], more: &str) -> String {
    let mut config = "[resolve]\nnegative_cache = \"1ms\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"basic\"]\n".to_owned();
    for (name, address, resources) in providers {
        config += &format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://{address}\"\nresources = [{resources}]\n"
        );
    }
    for (name, tenant) in [("ann", "tenant = \"blue\""), ("bob", ""), ("root", "groups = [\"ops\"]")] {
        config += &format!("[[caller]]\nname = \"{name}\"\npassword_hash = \"{HASH}\"\n{tenant}\n");
    }
    config + more
}

/// One caller of a standpipe.
#[derive(Clone, Copy)]
pub struct As<'a>(pub &'a Standpipe, pub &'static str);

impl As<'_> {
    pub fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        // ann:x, bob:x and root:x in base64.
        let credential = match self.1 {
            "ann" => "Basic YW5uOng=",
            "bob" => "Basic Ym9iOng=",
            _ => "Basic cm9vdDp4",
        };
        let headers = [headers, &[("authorization", credential)]].concat();
        self.0.call(method, path, &headers, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, &[("content-type", "application/json")], body)
    }

    pub fn delete(&self, path: &str) -> u16 {
        self.call("DELETE", path, &[], "").status
    }
}

/// All bytes of an answer but the names of the call and the day, and with one name for what was asked for.
fn bytes(answer: &Answer, name: &str) -> String {
    // This process's random name in Via may hold any short word.
    let named =
        |line: &str| if line.starts_with("via: ") { line.to_owned() } else { line.replace(name, "NAME") };
    let lines = answer.head.lines().filter(|line| !line.starts_with("date: ")).map(named);
    let head = lines.collect::<Vec<_>>().join("\n");
    let mut body = answer.body.clone();
    if let Some(at) = body.find("\"call\":\"") {
        body.replace_range(at + 8..at + 40, "CALL");
    }
    format!("{head}\n\n{}", body.replace(name, "NAME"))
}

/// Both answers are the same, to the byte, and have this status. Names must be of one length.
#[track_caller]
fn same(unseen: &Answer, name: &str, unknown: &Answer, other: &str, status: u16) {
    assert_eq!(bytes(unseen, name), bytes(unknown, other));
    assert_eq!(unknown.status, status, "{unknown:?}");
}

struct World {
    alpha: Standpipe,
    beta: Standpipe,
    front: House,
    standpipe: Standpipe,
    _gamma: Standpipe,
    _brokers: [House; 3],
    providers: Vec<(&'static str, SocketAddr, &'static str)>,
}

/// alpha has `db` and `both`, beta `web` and `both`, gamma `app`; only beta's and gamma's lists are configured.
fn world(rules: &str) -> World {
    let brokers = [
        House::broker("alpha", 0, &["db", "both"]),
        House::broker("beta", 0, &["web", "both"]),
        House::broker("gamma", 0, &["api"]),
    ];
    let [alpha, beta, gamma] = brokers.each_ref().map(House::serve_broker);
    let providers = vec![
        ("alpha", alpha.address, "\"db\""),
        ("beta", beta.address, "\"web\""),
        ("gamma", gamma.address, "\"api\""),
    ];
    let front = House::new(&configuration(&providers, rules));
    let standpipe = front.serve();
    World { alpha, beta, front, standpipe, _gamma: gamma, _brokers: brokers, providers }
}

impl World {
    fn reload(&self, rules: &str) {
        std::fs::write(&self.front.config, configuration(&self.providers, rules)).unwrap();
        let reloads = || self.standpipe.log().matches("the configuration was reloaded").count();
        let before = reloads();
        self.standpipe.signal("-HUP");
        until("the configuration is reloaded", || reloads() > before);
    }
}

const BETA_AND_GAMMA: &str = r#"
[[access]]
callers = ["basic:ann"]
providers = ["beta", "gam*"]
[[access]]
groups = ["ops"]
"#;

#[test]
fn once_there_is_a_rule_whoever_has_none_sees_nothing() {
    let world = world(BETA_AND_GAMMA);
    let bob = As(&world.standpipe, "bob");
    same(&bob.get("/web/pipes"), "web", &bob.get("/nix/pipes"), "nix", 404);
    same(&bob.get("/providers/beta/web/pipes"), "beta", &bob.get("/providers/nobo/web/pipes"), "nobo", 404);
    for list in ["/offers", "/needs", "/pipes"] {
        let answer = bob.get(list);
        assert_eq!((answer.status, answer.body.as_str()), (200, "[]"), "{list}");
    }
    assert_eq!(bob.get("/pipes/p").status, 404);
    assert_eq!(As(&world.standpipe, "root").get("/web/pipes").status, 200);
    assert_eq!(world.standpipe.get("/web/pipes").status, 401, "before everything");
    assert!(world.alpha.log().matches("GET").count() + world.beta.log().matches("/nix").count() == 0);
}

#[test]
fn an_unseen_provider_is_an_unknown_one() {
    let world = world(BETA_AND_GAMMA);
    let ann = As(&world.standpipe, "ann");
    for (method, path) in [("GET", "db/pipes"), ("POST", "db/pipes"), ("DELETE", "db/pipes/p"), ("PUT", "")] {
        let ask = |name: &str| ann.call(method, &format!("/providers/{name}/{path}"), &[], "");
        same(&ask("alpha"), "alpha", &ask("omega"), "omega", 404);
        let ask = |name: &str| ann.call(method, "/db/pipes/p", &[("standpipe-provider", name)], "");
        same(&ask("alpha"), "alpha", &ask("omega"), "omega", 404);
    }
    let list = |name: &str| ann.get(&format!("/offers?provider={name}"));
    same(&list("alpha"), "alpha", &list("omega"), "omega", 200);
    let pinned = |name: &str| ann.call("GET", "/pipes/p", &[("standpipe-provider", name)], "");
    same(&pinned("alpha"), "alpha", &pinned("omega"), "omega", 404);
    assert_eq!(ann.get("/providers/beta/web/pipes").status, 200);
    assert!(!world.alpha.log().contains("GET"), "an unseen provider is not asked: {}", world.alpha.log());
}

#[test]
fn an_unseen_resource_is_an_unknown_one_in_every_way_of_finding_it() {
    let mut world = world(BETA_AND_GAMMA);
    let (ann, root) = (As(&world.standpipe, "ann"), As(&world.standpipe, "root"));
    // Known to an index, then to a mapping, and each time only to those who see alpha.
    same(&ann.get("/db/pipes"), "db", &ann.get("/xy/pipes"), "xy", 404);
    assert_eq!(root.post("/db/pipes", r#"{"id":"one"}"#).status, 201);
    same(&ann.get("/db/pipes/one"), "db", &ann.get("/xy/pipes/one"), "xy", 404);
    same(&ann.get("/pipes/one"), "one", &ann.get("/pipes/two"), "two", 404);
    assert_eq!((ann.delete("/db/pipes/one"), root.get("/db/pipes/one").status), (404, 200));
    // Two have it, and ann sees one of them.
    assert_eq!(root.get("/both/pipes").status, 409);
    let seen = ann.get("/both/pipes");
    assert_eq!((seen.status, seen.header("standpipe-provider")), (200, Some("beta")));
    assert_eq!(root.get("/both/pipes").status, 409, "what ann found decides nothing for others");
    // One of those that ann sees is silent: nobody can tell, of both alike.
    world.beta.kill();
    let (unseen, unknown) = (ann.get("/db/pipes/one"), ann.get("/xy/pipes/one"));
    same(&unseen, "db", &unknown, "xy", 503);
    assert_eq!(unknown.json()["candidates"], serde_json::json!(["beta"]));
    let partial = ann.get("/pipes");
    assert_eq!((partial.status, partial.header("standpipe-partial")), (200, Some("beta;reason=unreachable")));
}

#[test]
fn with_a_single_provider_to_see_nothing_tells_of_the_others() {
    let mut world = world(
        "[[access]]\ncallers = [\"basic:ann\"]\nproviders = [\"beta\"]\n[[access]]\ngroups = [\"ops\"]\n",
    );
    let ann = As(&world.standpipe, "ann");
    let seen = ann.get("/web/pipes");
    assert_eq!((seen.status, seen.header("standpipe-provider")), (200, None));
    same(&ann.get("/db/pipes"), "db", &ann.get("/xy/pipes"), "xy", 404);
    world.alpha.kill();
    assert_eq!(As(&world.standpipe, "root").get("/nix/pipes").status, 503);
    let whole = ann.get("/offers");
    assert_eq!((whole.status, whole.header("standpipe-partial")), (200, None));
    assert_eq!(ann.get("/nix/pipes").status, 404);
    world.beta.kill();
    same(&ann.get("/db/pipes"), "db", &ann.get("/xy/pipes"), "xy", 503);
}

#[test]
fn rules_for_resources_kinds_and_methods_are_kept_everywhere() {
    let rules = r#"
        [[access]]
        callers = ["basic:ann"]
        resources = ["web", "ghost", "both"]
        providers = ["beta", "gamma"]
        [[access]]
        callers = ["basic:bob"]
        methods = ["GET"]
        [[access]]
        groups = ["ops"]
    "#;
    let world = world(rules);
    let [ann, bob, root] = ["ann", "bob", "root"].map(|name| As(&world.standpipe, name));
    assert_eq!(root.post("/web/pipes", r#"{"id":"one"}"#).status, 201);
    assert_eq!(root.post("/api/pipes", r#"{"id":"one"}"#).status, 201);
    assert_eq!(ann.get("/web/pipes/one").status, 200);
    same(&ann.get("/api/pipes"), "api", &ann.get("/nix/pipes"), "nix", 404);
    same(
        &ann.get("/providers/gamma/api/pipes/one"),
        "api",
        &ann.get("/providers/gamma/nix/pipes/one"),
        "nix",
        404,
    );
    let items = |caller: As<'_>, list: &str| {
        let items = caller.get(list).json();
        let names =
            items.as_array().unwrap().iter().map(|item| item["resource"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(items(root, "/pipes"), ["web", "api"]);
    assert_eq!(items(ann, "/pipes"), ["web"]);
    assert_eq!(items(ann, "/offers?limit=5"), ["web"]);
    assert_eq!(root.get("/pipes/one").status, 409);
    assert_eq!(ann.get("/pipes/one").json()["id"], "one", "the other one is not there for ann");
    let refused = bob.call("DELETE", "/web/pipes/one", &[], "");
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.json()["detail"].as_str().unwrap().contains("DELETE of pipe web/one"), "{refused:?}");
    assert_eq!(bob.get("/web/pipes/one").status, 200);
    assert_eq!(world.front.figure("standpipe_access_refused_total{reason=\"method\"}"), 1.0);
}

#[test]
fn what_a_caller_created_and_no_longer_sees_is_forbidden_and_can_be_deleted() {
    let everything = "[[access]]\ncallers = [\"basic:ann\", \"basic:bob\"]\n";
    let world = world(everything);
    let (ann, bob) = (As(&world.standpipe, "ann"), As(&world.standpipe, "bob"));
    for id in ["one", "two"] {
        assert_eq!(ann.post("/db/pipes", &format!("{{\"id\":\"{id}\"}}")).status, 201);
    }
    world.reload(BETA_AND_GAMMA);
    assert_eq!(ann.get("/db/pipes/one").status, 403);
    assert_eq!(ann.get("/providers/alpha/db/pipes/one").status, 403);
    assert_eq!(ann.call("PATCH", "/db/pipes/one", &[], "{}").status, 403);
    assert_eq!(ann.get("/pipes/one").status, 403, "nor under the path that names no resource");
    assert_eq!(ann.get("/pipes").body, "[]", "lists hold only what is seen");
    assert_eq!(bob.get("/db/pipes/one").status, 404, "for others it is not there");
    same(&ann.get("/db/pipes/six"), "db", &ann.get("/xy/pipes/six"), "xy", 404);
    assert_eq!(ann.delete("/db/pipes/one"), 204);
    assert_eq!(ann.delete("/db/pipes/one"), 404, "as the broker itself says");
    assert_eq!(ann.delete("/providers/alpha/db/pipes/two"), 204);
    assert_eq!(ann.get("/db/pipes/two").status, 403, "never 404 or 410");
    world.reload(everything);
    assert_eq!(ann.get("/db/pipes/two").status, 404);
    assert!(bob.get("/db/pipes").body.contains("[]"));
}

#[test]
fn a_bearer_that_only_a_provider_may_know_needs_a_rule() {
    let world = world("[[access]]\ncallers = [\"basic:*\"]\n");
    let patch = || {
        let bearer = [("authorization", "Bearer unknown")];
        world.standpipe.call("PATCH", "/providers/beta/web/pipes/one", &bearer, "{}")
    };
    assert_eq!(patch().status, 401);
    assert!(!world.beta.log().contains("PATCH"), "{}", world.beta.log());
    world.reload("[[access]]\ncallers = [\"stranger\"]\nkinds = [\"pipe\"]\nmethods = [\"PATCH\"]\n");
    patch();
    until("the broker has been asked", || world.beta.log().contains("PATCH"));
}

#[test]
fn check_says_which_rule_lets_in_or_what_each_one_lacks() {
    let front = House::new(&configuration(
        &[
            ("alpha", "127.0.0.1:1".parse().unwrap(), "\"db\""),
            ("beta", "127.0.0.1:2".parse().unwrap(), "\"web\""),
        ],
        "[[access]]\nname = \"readers\"\ntenants = [\"blue\"]\nproviders = [\"alpha\"]\nmethods = [\"GET\"]\n",
    ));
    let (code, text) = front.command(&["check", "--as", "basic:ann"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        text,
        "caller       basic:ann (tenant: blue; groups: none)\n\
         provider     alpha: seen by access[0] \"readers\" (some methods)\n\
         provider     beta: not seen: access[0] \"readers\" is not for the provider beta\n"
    );
    let (_, text) = front.command(&["check", "--as", "basic:ann", "DELETE", "/db/pipes/web"]);
    assert!(text.contains("call         DELETE /db/pipes/web (pipe db/web, resource db)\n"), "{text}");
    assert!(
        text.contains("alpha: refused (403): access[0] \"readers\" is not for the method DELETE\n"),
        "{text}"
    );
    let (_, text) =
        front.command(&["check", "--as", "x", "--tenant", "blue", "GET", "/providers/alpha/db/pipes"]);
    assert!(text.ends_with("provider     alpha: let in by access[0] \"readers\"\n"), "{text}");
    let (_, text) = front.command(&["check", "--as", "basic:bob", "--group", "ops"]);
    assert!(text.contains("access[0] \"readers\" needs a tenant"), "{text}");
    let (code, text) = front.command(&["check", "--as", "basic:ann", "GET"]);
    assert!(code != 0 && text.contains("<PATH>"), "{text}");
}

#[test]
fn mistakes_in_rules_have_their_key_paths() {
    let rules = r#"
        [limits.caller]
        burst = 3
        [limits.tenant]
        [[access]]
        providers = ["alhpa", "b*"]
        callers = []
        methods = ["get"]
        user = ["ann"]
        [[quota]]
        kind = "pipe"
        most = 0
        [audit]
        keep = "long"
    "#;
    let front = House::new(&configuration(&[("alpha", "127.0.0.1:1".parse().unwrap(), "")], rules));
    let (code, text) = front.command(&["check"]);
    assert_eq!(code, 1, "{text}");
    let keys: Vec<&str> = text.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = [
        "limits.caller.burst",
        "limits.tenant.requests_per_second",
        "quota[0].most",
        "audit.keep",
        "access[0].callers",
        "access[0].providers",
        "access[0].methods",
        "access[0].user",
    ];
    assert_eq!(keys, expected, "{text}");
}
