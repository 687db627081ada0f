//! No secret is written where somebody may read it: each one given to two standpipes here is recognisable, and all that they
//! write is searched for them.

mod world;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use self::world::{KINDS, World};
use crate::support::{Answer, Canaries, MARK, Mood, SECRET, Wire, bearer, exchange, secret, until};

const PAGES: [&str; 10] = [
    "/live",
    "/ready",
    "/metrics",
    "/providers",
    "/tokens",
    "/audit",
    "/mappings",
    "/mappings/pipe/app?parent=db",
    "/outbox",
    "/nothing",
];

const COMMANDS: [&str; 10] = [
    "mappings list",
    "mappings export",
    "tokens list",
    "tokens list --json",
    "outbox list",
    "outbox list --json",
    "audit list",
    "audit list --json",
    "check",
    "check --as basic:ann GET /db/pipes",
];

impl World {
    fn basic(&self, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("ann:{password}")))
    }

    /// A call of ann's.
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let field = self.basic(&secret("Ann"));
        let headers =
            [("authorization", &*field), ("content-type", "application/json"), ("cookie", &secret("Cookie"))];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.standpipe.call(method, path, &headers, &body)
    }

    /// A call with a token of the issuer's.
    fn call_as(&self, caller: &str, path: &str) -> u16 {
        let token = self.login.token(caller, json!({"jti": secret("Jti")}));
        self.standpipe.call("GET", path, &[("authorization", &format!("Bearer {token}"))], "").status
    }

    /// Every kind of credential, for those who come with passwords and with tokens.
    fn calls_providers(&self) {
        for kind in KINDS {
            let path = format!("/providers/{kind}/x?apikey={}", secret("Query"));
            let expected = match kind {
                "refusing" => 401,
                "failing" => 500,
                "nonsense" => 502,
                _ => 200,
            };
            assert_eq!(self.call_as("bob", &path), expected, "{kind}");
            self.call("POST", &path, &json!({"password": secret("Body")}));
        }
        for (mood, status) in [(Mood::Refusing, 403), (Mood::Garbage, 502), (Mood::Broken, 503)] {
            self.sts.is(mood);
            assert_eq!(self.call_as(&format!("{mood:?}"), "/providers/exchange/x"), status);
        }
        self.sts.is(Mood::Good);
    }

    /// An operator's slips: a secret where its reference belongs, and in a line that cannot be read.
    fn is_badly_configured(&self, canaries: &Canaries) {
        let good = std::fs::read_to_string(&self.front.config).unwrap();
        for slip in [format!("\"{MARK}\""), format!("\"{MARK}")] {
            std::fs::write(&self.front.config, good.replace("\"file:password\"", &slip)).unwrap();
            let (code, text) = self.front.command(&["check"]);
            assert!(code == 1 && canaries.find(&text).is_none(), "{text}");
            let refused = || self.standpipe.log().matches("the configuration was not reloaded").count();
            let before = refused();
            self.standpipe.signal("-HUP");
            until("the slip is noticed", || refused() > before);
        }
        std::fs::write(&self.front.config, good).unwrap();
    }

    /// Who is not let in comes with secrets too.
    fn is_called_by_strangers(&self) {
        let bad = self.login.token("bob", json!({"jti": secret("Expired"), "exp": 1}));
        let unsigned = format!("{}x", self.login.token("bob", json!({"jti": secret("Unsigned")})));
        for field in [
            self.basic(&secret("Wrong")),
            format!("Bearer {bad}"),
            format!("Bearer {unsigned}"),
            format!("Bearer {MARK}"),
            format!("{MARK} {MARK}"),
        ] {
            let answer = self.standpipe.call("GET", "/providers/bearer/x", &[("authorization", &field)], "");
            assert_eq!(answer.status, 401, "{field}");
        }
        for broken in [
            format!("GET /x HTTP/1.1\r\nhost: a\r\nauthorization : Bearer {MARK}\r\n\r\n"),
            format!(
                "GET /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {MARK}\r\ncontent-length: {MARK}\r\n\r\n"
            ),
            format!("GET /x?{MARK} HTTP/9.1\r\nhost: a\r\n\r\n{MARK}"),
        ] {
            let refused = exchange(self.standpipe.address, broken.as_bytes()).unwrap();
            assert!(refused.starts_with(b"HTTP/1.1 400"), "{}", refused.escape_ascii());
        }
        let field = format!("Bearer {}", self.login.token("robot", json!({})));
        let headers = [("authorization", &*field), ("content-type", "application/x-www-form-urlencoded")];
        for subject in [bad, unsigned, MARK.to_owned()] {
            let form = format!(
                "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={subject}&subject_token_type=urn:ietf:params:oauth:token-type:jwt&audience=issued"
            );
            assert_eq!(self.standpipe.call("POST", "/oauth2/token", &headers, &form).status, 400);
        }
        assert!(self.ask_operator("/tokens", &secret("Operator")).starts_with("HTTP/1.1 401"));
    }

    /// Pipes with secrets, told to another broker, to one that is gone and to one that is away.
    fn connects_pipes(&self) -> Vec<String> {
        let data = |name| json!({"data": {"PASSWORD": secret(name)}});
        let made = self.call("POST", "/db/pipes", &json!({"id": "app", "this": data("Pipe")}));
        assert_eq!(made.status, 201, "{}", made.body);
        let this = &made.json()["this"];
        let uri = json!({"uri": this["uri"], "issuer": this["issuer"]});
        let pipe = json!({"id": "db", "this": data("App"), "other": uri});
        let json_type = [("content-type", "application/json")];
        let made = self.other.call("POST", "/app/pipes", &json_type, &pipe.to_string());
        assert_eq!(made.status, 201, "{}", made.body);
        let this = &made.json()["this"];
        let uri = json!({"other": {"uri": this["uri"], "issuer": this["issuer"]}});
        assert_eq!(self.call("PATCH", "/db/pipes/app", &uri).status, 202);
        until("both brokers were told", || {
            let told = |pipe: Value| pipe["other"]["data"]["PASSWORD"].is_string();
            told(self.other.get("/app/pipes/db").json())
                && told(self.call("GET", "/db/pipes/app", &Value::Null).json())
        });
        for (id, other) in [
            ("gone", format!("http://{}/gone", self.origin.address)),
            ("away", "http://127.0.0.1:1/x".to_owned()),
        ] {
            let pipe =
                json!({"id": id, "this": data("Undelivered"), "other": {"uri": other, "issuer": other}});
            assert_eq!(self.call("POST", "/db/pipes", &pipe).status, 201);
        }
        until("what cannot be delivered is listed", || {
            let (_, listed) = self.front.command(&["outbox", "list"]);
            listed.contains("410 Gone") && listed.contains("push/apps/db/away")
        });
        let [made, link] =
            ["/made/pipes", "/link/pipes"].map(|path| self.call("POST", path, &json!({"id": "p"})));
        assert_eq!((made.status, link.status), (201, 201), "{} {}", made.body, link.body);
        assert!(link.body.contains(MARK), "{}", link.body);
        vec![made.json()["this"]["data"]["PASS"].as_str().unwrap().to_owned()]
    }

    /// Pipes between brokers that know only standpipe: one that both ends have, and one that still lacks an end.
    fn mediates_pipes(&self) {
        let url = format!("http://{}", self.standpipe.address);
        let create = |resource: &str, id: &str, other: &str| {
            let other = json!({"uri": format!("{url}/ends/{other}"), "Issuer": url});
            let made = self.call("POST", &format!("/{resource}/pipes"), &json!({"id": id, "other": other}));
            assert_eq!(made.status, 201, "{}", made.body);
        };
        create("ref-a", "p", "beta/ref-b/pipes/q");
        create("ref-b", "q", "alpha/ref-a/pipes/p");
        create("ref-a", "half", "beta/ref-b/pipes/missing");
        let [a, b] = &self.reference;
        until("both brokers were told", || {
            let told = |pipe: Value| pipe["other"]["data"]["PASSWORD"].is_string();
            told(a.pipe("/ref-a/pipes/p")) && told(b.pipe("/ref-b/pipes/q"))
        });
        until("news for the missing end waits", || {
            self.front.command(&["outbox", "list"]).1.contains("missing")
        });
    }

    /// What the operator's listener says to a token, all of it.
    fn ask_operator(&self, path: &str, token: &str) -> String {
        let mut wire = Wire::connect(self.admin);
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        ));
        wire.rest()
    }

    /// All that can be read by somebody who is not to know secrets, with its name.
    fn written(&self) -> Vec<(String, String)> {
        let mut all =
            vec![("log".to_owned(), self.standpipe.log()), ("other log".to_owned(), self.other.log())];
        for path in PAGES {
            all.push((path.to_owned(), self.ask_operator(path, &secret("admintoken"))));
        }
        for (house, whose) in [(&self.front, ""), (&self.app, "other ")] {
            for words in COMMANDS {
                let apart: Vec<&str> = words.split(' ').collect();
                all.push((format!("{whose}{words}"), house.command(&apart).1));
            }
        }
        all.extend(self.files());
        all
    }

    /// The databases and what is beside them, but not the keys.
    fn files(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (house, whose) in [(&self.front, ""), (&self.app, "other ")] {
            let files =
                std::fs::read_dir(house.folder.path().join("standpipe-data")).unwrap().map(Result::unwrap);
            for file in
                files.filter(|file| file.file_type().unwrap().is_file() && file.file_name() != "master.key")
            {
                let text = String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned();
                all.push((format!("{whose}{}", file.file_name().display()), text));
            }
        }
        all
    }

    /// Secrets that others made: whatever a provider or a broker was shown, and the keys that seal.
    fn made_by_others(&self) -> Vec<String> {
        let origins = [&self.origin, &self.reference[0].origin, &self.reference[1].origin];
        let tokens =
            origins.into_iter().flat_map(|origin| origin.said()).filter_map(|request| bearer(&request));
        let keys = [&self.front, &self.app].map(|house| {
            std::fs::read_to_string(house.folder.path().join("standpipe-data/master.key"))
                .unwrap()
                .trim()
                .to_owned()
        });
        // The last bytes of a token are its signature, or what tells it from others.
        tokens.map(|token| token[token.len().saturating_sub(32)..].to_owned()).chain(keys).collect()
    }
}

#[test]
fn no_secret_is_in_a_log_a_database_or_an_answer_to_an_operator() {
    let mut world = World::new();
    let mut canaries = Canaries::new(&[SECRET]);
    world.made_by_others().iter().for_each(|key| canaries.add(key));
    world.calls_providers();
    world.is_called_by_strangers();
    world.connects_pipes().iter().for_each(|password| canaries.add(password));
    world.mediates_pipes();
    let (code, text) = world.front.command(&["keys", "rotate"]);
    assert_eq!(code, 0, "{text}");
    world.made_by_others().iter().for_each(|token| canaries.add(token));
    world.is_badly_configured(&canaries);
    until("the tokens are written", || world.front.command(&["tokens", "list"]).1.contains("exchange"));
    until("the calls are remembered", || {
        world.front.command(&["audit", "list"]).1.contains("/providers/nonsense/x")
    });
    let written = world.written();
    for (place, text) in &written {
        assert_eq!(canaries.find(text), None, "in {place}");
    }
    for (place, word) in [
        ("log", " DEBUG "),
        ("other log", "served broker=apps"),
        ("/tokens", "exchange"),
        ("/audit", "basic:ann"),
        ("/outbox", "410 Gone"),
        ("/mappings", "apps"),
        ("mappings list", "apps"),
        ("standpipe.db", "SQLite"),
        ("standpipe.db-wal", "apps"),
        ("other standpipe.db-wal", "apps"),
    ] {
        let text = written.iter().find(|(name, _)| name == place).map(|(_, text)| text);
        assert!(text.is_some_and(|text| text.contains(word)), "{place} was not really read: {text:?}");
    }
    for process in [&mut world.standpipe, &mut world.other] {
        process.signal("-TERM");
        process.ended();
    }
    for (place, text) in world.files() {
        assert_eq!(canaries.find(&text), None, "in {place} after the end");
    }
    for kind in KINDS.into_iter().filter(|kind| *kind != "digest") {
        let shown = |request: &String| {
            let field = request.lines().find(|line| line.to_lowercase().starts_with("authorization: "));
            request.contains(&format!(" /{kind}/x"))
                && field.is_some_and(|field| canaries.find(field).is_some())
        };
        assert!(world.origin.said().iter().any(shown), "{kind} was given no secret that would be recognised");
    }
}
