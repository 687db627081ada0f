//! Callers who administer standpipe from elsewhere: over TLS, with the role they have and no more.

use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::automatic::port;
use crate::support::{Answer, Authority, House, Origin, Standpipe, Wire, password_hash};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct World {
    authority: Authority,
    house: House,
    standpipe: Standpipe,
    origin: Origin,
    port: u16,
}

impl World {
    fn new() -> Self {
        let (authority, origin, port) = (Authority::new(), Origin::answering(OK), port());
        authority.issue("front");
        let (certificate, key) = (authority.path("front.pem"), authority.path("front.key"));
        let caller = |name: &str, more: &str| {
            format!("[[caller]]\nname = \"{name}\"\npassword_hash = \"{}\"\n{more}\n", password_hash(name))
        };
        let config = format!(
            "threads = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin.listener]\naddress = \"127.0.0.1:{port}\"\ncallers = [\"basic\"]\ntls = {{ certificate = {certificate:?}, key = {key:?} }}\n[[admin.role]]\nrole = \"administrator\"\ngroups = [\"operators\"]\n[[admin.role]]\nrole = \"auditor\"\ncallers = [\"basic:audrey\"]\n{}{}{}",
            caller("ada", "groups = [\"operators\"]"),
            caller("audrey", ""),
            caller("app", "tenant = \"blue\""),
        );
        let house = House::new(&config);
        let standpipe = house.serve();
        Self { authority, house, standpipe, origin, port }
    }

    /// Asks over TLS, with whatever fields.
    fn ask_with(&self, fields: &str, method: &str, path: &str, body: &str) -> Answer {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], self.port));
        let (mut wire, _) = Wire::connect_tls(address, self.authority.client("http/1.1"));
        let length = body.len();
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nconnection: close\r\n{fields}content-length: {length}\r\n\r\n{body}"
        ));
        Answer::parse(wire.rest().as_bytes()).unwrap()
    }

    fn ask(&self, who: &str, method: &str, path: &str, body: &str) -> Answer {
        let basic = STANDARD.encode(format!("{who}:{who}"));
        let fields = format!("host: localhost:{}\r\nauthorization: Basic {basic}\r\n", self.port);
        self.ask_with(&fields, method, path, body)
    }

    fn table(&self, name: &str) -> serde_json::Value {
        json!({"name": name, "dialect": "cloudpipe", "url": format!("http://{}", self.origin.address)})
    }
}

#[test]
fn an_administrator_does_everything_an_auditor_looks_and_others_do_neither() {
    let world = World::new();
    let body = world.table("alpha").to_string();
    let rows: [(&str, &str, &str, [u16; 3]); 14] = [
        ("GET", "/providers", "", [200, 200, 403]),
        ("POST", "/providers", &body, [201, 403, 403]),
        ("GET", "/providers/alpha", "", [200, 200, 403]),
        ("PATCH", "/providers/alpha", "{\"concurrency\":3}", [200, 403, 403]),
        ("PUT", "/providers/alpha", &body, [200, 403, 403]),
        ("POST", "/providers/alpha/drain", "", [200, 403, 403]),
        ("POST", "/providers/alpha/undrain", "", [200, 403, 403]),
        ("POST", "/providers/alpha/refresh", "", [202, 403, 403]),
        ("GET", "/providers/alpha/db/pipes", "", [404, 403, 403]),
        ("GET", "/mappings", "", [200, 200, 403]),
        ("DELETE", "/tokens", "", [200, 403, 403]),
        ("GET", "/audit", "", [200, 200, 403]),
        ("GET", "/metrics", "", [200, 200, 403]),
        ("DELETE", "/providers/alpha", "", [200, 403, 403]),
    ];
    for (method, path, body, wanted) in rows {
        let callers = ["ada", "audrey", "app"];
        // Who may not comes first: what it did not do is still to be done.
        for (who, wanted) in callers.into_iter().zip(wanted).rev() {
            let answer = world.ask(who, method, path, body);
            assert_eq!(answer.status, wanted, "{who} {method} {path}: {}", answer.body);
        }
    }
    let audit = world.house.command(&["audit", "list", "--json"]).1;
    let done = |who: &str, method: &str, status: u16| {
        audit.lines().any(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["caller"] == who && event["method"] == method && event["status"] == status
        })
    };
    assert!(done("basic:ada", "POST", 201) && done("basic:ada", "DELETE", 200), "{audit}");
    assert!(done("basic:audrey", "POST", 403) && !audit.contains("\"GET\""), "{audit}");
    assert_eq!(
        world.house.command(&["providers", "list"]).0,
        0,
        "the socket stays for who is on the machine"
    );
}

#[test]
fn nobody_comes_in_without_a_credential_by_another_name_or_from_a_page() {
    let world = World::new();
    let host = format!("host: localhost:{}\r\n", world.port);
    let basic = format!("authorization: Basic {}\r\n", STANDARD.encode("ada:ada"));
    let nobody = world.ask_with(&host, "GET", "/providers", "");
    assert_eq!(
        (
            nobody.status,
            nobody.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("basic"))
        ),
        (401, true)
    );
    assert_eq!(world.ask_with(&host, "GET", "/live", "").status, 200, "an orchestrator has no credential");
    let wrong = format!("{host}authorization: Basic {}\r\n", STANDARD.encode("ada:eve"));
    assert_eq!(world.ask_with(&wrong, "GET", "/providers", "").status, 401);
    let named = |fields: &str| world.ask_with(&format!("{fields}{basic}"), "GET", "/providers", "").status;
    assert_eq!(named(&host), 200);
    assert_eq!(named("host: evil.example\r\n"), 403);
    assert_eq!(named(&format!("{host}origin: https://localhost:{}\r\n", world.port)), 403);
    let plain = format!("GET /providers HTTP/1.1\r\n{host}{basic}\r\n");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], world.port));
    let unread = crate::support::exchange(address, plain.as_bytes()).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&unread).contains("200 OK"), "only over TLS");
    assert!(!world.standpipe.log().contains("panicked"));
}

#[test]
fn an_administrator_elsewhere_gives_secrets_and_names_no_files_of_this_machine() {
    let world = World::new();
    let with = |key: &str, value: serde_json::Value| {
        let mut table = world.table("alpha");
        table[key] = value;
        world.ask("ada", "POST", "/providers", &table.to_string())
    };
    let key = world.house.folder.path().join("standpipe-data/master.key");
    let rows = [
        ("credential", json!({"kind": "bearer", "token": format!("file:{}", key.display())})),
        ("credential", json!({"kind": "bearer", "token": "env:HOME"})),
        ("credentials_document", json!({"from": ["env:HOME"]})),
        ("tls", json!({"roots": "/etc/passwd"})),
        ("resources", json!({"command": ["cat", "/etc/passwd"]})),
        ("resources", json!({"file": "/etc/passwd"})),
    ];
    for (key, value) in rows {
        let refused = with(key, value);
        let detail = refused.body.clone();
        assert!(refused.status == 400 && detail.contains("for operators on it"), "{key}: {detail}");
    }
    assert!(world.origin.said().is_empty());
    assert_eq!(with("credential", json!({"kind": "bearer", "token": {"value": "given"}})).status, 201);
    assert_eq!(world.standpipe.get("/providers/alpha/x").status, 200);
    assert!(world.origin.first().contains("Bearer given"));
}
