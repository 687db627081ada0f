//! Providers' tokens: exchanged once, kept sealed, renewed, and what happens when nobody gives any.

use std::sync::atomic::Ordering;

use crate::support::{Answer, House, Keeper, Login, Mood, Origin, SECRET, Standpipe, Sts, Wire, until};

const CALLER: &str = "c4ller-t0ken.of-ann";

/// A standpipe in front of a provider whose credential is of a kind, with more of its keys.
fn house(keeper: &Keeper, sts: &Sts, kind: &str, more: &str) -> House {
    let house = House::new(&config(keeper, sts, kind, more));
    std::fs::write(house.folder.path().join("client"), format!("{SECRET}\n")).unwrap();
    house
}

fn config(keeper: &Keeper, sts: &Sts, kind: &str, more: &str) -> String {
    format!(
        "threads = 2\n[log]\nlevel = \"trace\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\nconcurrency = 32\nqueue_wait = \"20s\"\ncredential = {{ kind = \"{kind}\", token_url = \"{}\", client_id = \"standpipe\", client_secret = \"file:client\"{more} }}\n[[provider]]\nname = \"open\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\ncredential = {{ kind = \"bearer\", token = \"file:client\" }}\n",
        keeper.origin.address,
        sts.url(),
        keeper.origin.address
    )
}

fn call(standpipe: &Standpipe, token: &str) -> Answer {
    standpipe.call("GET", "/providers/alpha/x", &[("authorization", &format!("Bearer {token}"))], "")
}

#[test]
fn a_callers_token_is_exchanged_once_and_reaches_nobody_else() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let more = ", audience = \"alpha\", resource = [\"https://a\", \"https://b\"], scope = \"read write\", requested_token_type = \"jwt\", actor_token = \"file:actor\"";
    let house = house(&keeper, &sts, "exchange", more);
    std::fs::write(house.folder.path().join("actor"), "act0r").unwrap();
    let standpipe = house.serve();
    for _ in 0..3 {
        assert_eq!(call(&standpipe, CALLER).status, 200);
    }
    assert_eq!(call(&standpipe, "an0ther").status, 200);
    assert_eq!(sts.granted(), 2, "one exchange for each caller");
    assert!(keeper.shown().iter().all(|token| token.starts_with("pr0vider-")), "{:?}", keeper.shown());
    let last = sts.last();
    for (name, value) in [
        ("subject_token", "an0ther"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:access_token"),
        ("requested_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("actor_token", "act0r"),
        ("audience", "alpha"),
        ("resource", "https://b"),
        ("scope", "read write"),
    ] {
        assert!(last.contains(&(name.to_owned(), value.to_owned())), "{name} {last:?}");
    }
    let nobody = standpipe.get("/providers/alpha/x");
    assert_eq!((nobody.status, sts.asked()), (403, 2), "{}", nobody.body);
    assert!(house.figure("standpipe_token_exchanges_total{provider=\"alpha\",outcome=\"success\"}") > 1.0);
    assert!(house.figure("standpipe_token_cache_hits_total{provider=\"alpha\"}") > 1.0);
}

#[test]
fn the_other_grants_say_who_they_are_in_the_form() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    for kind in ["jwt-bearer", "oauth2"] {
        let standpipe = house(&keeper, &sts, kind, ", client_auth = \"post\"").run();
        assert_eq!(call(&standpipe, CALLER).status, 200, "{kind}");
        assert_eq!(call(&standpipe, "an0ther").status, 200, "{kind}");
    }
    assert_eq!(sts.granted(), 3, "standpipe's own is one for all");
    assert_eq!(keeper.shown()[2], "pr0vider-3-service");
}

#[test]
fn a_thousand_first_calls_at_once_are_one_exchange() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let standpipe = house(&keeper, &sts, "exchange", "").run();
    sts.is(Mood::Waiting);
    let request = format!(
        "GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {CALLER}\r\nconnection: close\r\n\r\n"
    );
    let mut clients: Vec<Wire> = (0..1000).map(|_| Wire::connect(standpipe.address)).collect();
    clients.iter_mut().for_each(|client| client.send(&request));
    until("the endpoint is asked", || sts.asked() > 0);
    sts.is(Mood::Good);
    for client in &mut clients {
        assert_eq!(Answer::parse(client.rest().as_bytes()).unwrap().status, 200);
    }
    assert_eq!((sts.asked(), sts.granted()), (1, 1));
}

#[test]
fn a_refused_token_is_exchanged_once_more_and_the_request_is_sent_again() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let standpipe = house(&keeper, &sts, "exchange", "").run();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    keeper.refuse(&keeper.shown()[0]);
    let field = format!("Bearer {CALLER}");
    let post = standpipe.call("POST", "/providers/alpha/x", &[("authorization", &field)], "{\"a\":1}");
    assert_eq!((post.status, sts.granted(), keeper.shown().len()), (200, 2, 3));
    let said = keeper.origin.said();
    assert!(said[1].ends_with("{\"a\":1}") && said[2].ends_with("{\"a\":1}"), "{said:?}");
    assert_ne!(keeper.shown()[1], keeper.shown()[2]);
    keeper.refuse("*");
    for _ in 0..5 {
        let refused = call(&standpipe, CALLER);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("bearer")));
    }
    assert!(sts.granted() <= 3, "a provider that refuses everybody does not cost an exchange for each call");
}

#[test]
fn a_token_is_renewed_before_its_end_by_whoever_brings_the_callers_again() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    sts.lifetime.store(2, Ordering::SeqCst);
    let standpipe = house(&keeper, &sts, "exchange", "").run();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    until("the token is renewed", || {
        assert_eq!(call(&standpipe, CALLER).status, 200);
        sts.granted() == 2
    });
    until("the new one is used", || {
        call(&standpipe, CALLER);
        keeper.shown().last().is_some_and(|token| token.starts_with("pr0vider-2-"))
    });
}

#[test]
fn standpipes_own_token_is_renewed_while_nobody_calls() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    sts.lifetime.store(2, Ordering::SeqCst);
    let standpipe = house(&keeper, &sts, "oauth2", "").run();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    until("the token is renewed", || sts.granted() >= 3);
    sts.is(Mood::Broken);
    let asked = sts.asked();
    until("a failed renewal is tried again", || sts.asked() > asked + 1);
    sts.is(Mood::Good);
    until("it comes back", || call(&standpipe, CALLER).status == 200);
}

#[test]
fn an_endpoint_that_fails_is_named_and_hurts_nobody_else() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let house = house(&keeper, &sts, "exchange", ", timeout = \"300ms\"");
    let standpipe = house.serve();
    for (number, (mood, status, word)) in [
        (Mood::Silent, 504, "in time"),
        (Mood::Garbage, 502, "no token answer"),
        (Mood::Broken, 503, "failed with 500"),
        (Mood::Refusing, 403, "invalid_grant"),
    ]
    .into_iter()
    .enumerate()
    {
        sts.is(mood);
        let token = format!("{CALLER}-{number}");
        for _ in 0..2 {
            let answer = call(&standpipe, &token);
            assert_eq!(answer.status, status, "{mood:?} {}", answer.body);
            assert!(answer.body.contains("alpha") && answer.body.contains(word), "{mood:?} {}", answer.body);
            assert!(!answer.body.contains("c4ller") && !answer.body.contains("s3cret"), "{}", answer.body);
        }
        assert_eq!(standpipe.get("/providers/open/x").status, 200, "{mood:?}");
    }
    assert_eq!(sts.asked(), 4, "an endpoint that has just failed is not asked again at once");
    sts.is(Mood::Good);
    until("the refusal is forgotten", || call(&standpipe, &format!("{CALLER}-3")).status == 200);
    drop(sts);
    let log = standpipe.log();
    assert!(!log.contains("c4ller") && !log.contains("s3cret"), "{log}");
}

#[test]
fn an_endpoint_that_is_gone_is_503_and_a_wrong_client_502() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let gone = config(&keeper, &sts, "exchange", "").replace(&sts.url(), "http://127.0.0.1:1/token");
    let house = House::new(&gone);
    std::fs::write(house.folder.path().join("client"), "wrong").unwrap();
    let answer = call(&house.serve(), CALLER);
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("token endpoint of alpha") && answer.header("retry-after").is_some());
    std::fs::write(&house.config, config(&keeper, &sts, "exchange", "")).unwrap();
    let standpipe = house.serve();
    let answer = call(&standpipe, CALLER);
    assert!(answer.status == 502 && answer.body.contains("invalid_client"), "{}", answer.body);
    std::fs::write(house.folder.path().join("client"), SECRET).unwrap();
    until("the corrected secret is read", || call(&standpipe, CALLER).status == 200);
}

#[test]
fn a_token_survives_a_restart_sealed_and_other_settings_do_not_use_it() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let house = house(&keeper, &sts, "exchange", "");
    let mut standpipe = house.serve();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    until("the token is written", || house.command(&["tokens", "list"]).1.contains("exchange"));
    standpipe.kill();
    let mut standpipe = house.serve();
    assert_eq!((call(&standpipe, CALLER).status, sts.granted()), (200, 1));
    assert_eq!(keeper.shown()[0], keeper.shown()[1]);
    standpipe.kill();
    std::fs::write(&house.config, config(&keeper, &sts, "exchange", ", scope = \"less\"")).unwrap();
    let standpipe = house.serve();
    assert_eq!((call(&standpipe, CALLER).status, sts.granted()), (200, 2));
}

#[test]
fn tokens_are_listed_and_purged_with_and_without_a_server() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let house = house(&keeper, &sts, "exchange", "");
    let mut standpipe = house.serve();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    until("the token is written", || house.command(&["tokens", "list"]).1.contains("alpha"));
    let (code, list) = house.command(&["tokens", "list", "--json"]);
    assert!(code == 0 && list.contains("\"kind\":\"exchange\"") && !list.contains("pr0vider"), "{list}");
    assert_eq!(house.command(&["tokens", "purge", "--provider", "beta"]), (0, "0 removed\n".to_owned()));
    assert_eq!(house.command(&["tokens", "purge"]), (0, "1 removed\n".to_owned()));
    assert_eq!((call(&standpipe, CALLER).status, sts.granted()), (200, 2), "a new one is fetched");
    until("the token is written", || house.command(&["tokens", "list"]).1.contains("alpha"));
    standpipe.kill();
    assert!(house.command(&["tokens", "list", "--provider", "alpha"]).1.contains("alpha"));
    assert_eq!(house.command(&["tokens", "purge", "--provider", "alpha"]), (0, "1 removed\n".to_owned()));
    assert!(!house.command(&["tokens", "list"]).1.contains("alpha"));
}

#[test]
fn a_new_key_opens_everything_at_once_and_after_every_crash() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let house = house(&keeper, &sts, "exchange", "");
    let key = house.folder.path().join("standpipe-data/master.key");
    let mut standpipe = house.serve();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    until("the token is written", || house.command(&["tokens", "list"]).1.contains("alpha"));
    let first = std::fs::read(&key).unwrap();
    let (code, text) = house.command(&["keys", "rotate"]);
    assert!(code == 0 && text.contains("sealed anew"), "{text}");
    let second = std::fs::read(&key).unwrap();
    assert_ne!(first, second);
    assert_eq!(call(&standpipe, "an0ther").status, 200);
    until("the token is written", || house.command(&["tokens", "list"]).1.matches("alpha").count() == 2);
    standpipe.kill();
    let (code, text) = house.command(&["keys", "rotate"]);
    assert!(code == 0 && text.contains("sealed anew"), "{text}");
    assert_ne!(std::fs::read(&key).unwrap(), second);
    let mut standpipe = house.serve();
    assert_eq!((call(&standpipe, CALLER).status, call(&standpipe, "an0ther").status), (200, 200));
    assert_eq!(sts.granted(), 2, "both were opened under the third key");
    for point in ["commit-before", "commit-after"] {
        standpipe.kill();
        drop(standpipe);
        standpipe = house.serve_until(point);
        house.command(&["keys", "rotate"]);
        standpipe.ended();
        standpipe = house.serve();
        assert_eq!((call(&standpipe, CALLER).status, sts.granted()), (200, 2), "{point}");
        assert!(!house.folder.path().join("standpipe-data/master.key.new").exists(), "{point}");
    }
    standpipe.kill();
    std::fs::write(&key, first).unwrap();
    let (code, text) = house.command(&["tokens", "list"]);
    assert!(code == 1 && text.contains("master key does not open"), "{text}");
}

#[test]
fn a_key_of_the_operators_own_takes_over_where_it_says() {
    let (keeper, sts) = (Keeper::new(), Sts::new());
    let hex = |byte: &str| byte.repeat(32);
    let text = format!("master_key = \"file:one.key\"\n{}", config(&keeper, &sts, "exchange", ""));
    let house = House::new(&text);
    let file = |name: &str| house.folder.path().join(name);
    for (name, content) in [("client", SECRET), ("one.key", &hex("a1")), ("two.key", &hex("b2"))] {
        std::fs::write(file(name), content).unwrap();
    }
    let mut standpipe = house.serve();
    assert_eq!(call(&standpipe, CALLER).status, 200);
    let to = format!("file:{}", file("two.key").display());
    let (code, said) = house.command(&["keys", "rotate", "--to", &to]);
    assert!(code == 0 && said.contains("master_key"), "{said}");
    assert_eq!(std::fs::read_to_string(file("one.key")).unwrap(), hex("a1"), "theirs is left alone");
    standpipe.kill();
    assert_eq!(house.command(&["tokens", "list"]).0, 1);
    std::fs::write(&house.config, text.replace("one.key", "two.key")).unwrap();
    assert_eq!(house.command(&["tokens", "list"]).0, 0);
}

#[test]
fn digest_answers_the_challenge_and_sends_the_request_again() {
    let origin = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let answered = request.to_lowercase().contains("authorization: digest username=\"key\"");
            let counted = request.contains("nc=00000001") || request.contains("nc=00000002");
            peer.wire.send(match answered && counted && request.contains("uri=\"/x?y=1\"") {
                true => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                false => "HTTP/1.1 401 No\r\nwww-authenticate: Digest realm=\"a\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256\r\ncontent-length: 0\r\n\r\n",
            });
        }
    });
    let settings = "credential = { kind = \"digest\", username = \"key\", password = \"file:password\" }\n";
    let house = House::before(origin.address, settings, "threads = 1\n");
    std::fs::write(house.folder.path().join("password"), "d1gest").unwrap();
    let standpipe = house.serve();
    assert_eq!(standpipe.post("/providers/alpha/x?y=1", "{\"a\":1}").status, 200);
    assert_eq!(standpipe.get("/providers/alpha/x?y=1").status, 200);
    let said = origin.said();
    assert_eq!(said.len(), 3, "the second call knows the challenge: {said:?}");
    assert!(said[1].ends_with("{\"a\":1}") && said.iter().all(|request| !request.contains("d1gest")));
    let wrong = standpipe.get("/providers/alpha/x?y=2");
    assert_eq!(wrong.status, 401, "the provider's word stands");
}

#[test]
fn a_credential_is_chosen_by_field_and_the_resource_keeps_it() {
    let keeper = Keeper::new();
    let settings = "resources = [\"db\"]\ncredential_by = { header = \"x-key\", query = \"apikey\", body = \"key\" }\ncredentials = [{ alias = \"main\", kind = \"bearer\", token = \"file:main\" }, { alias = \"blue\", kind = \"bearer\", token = \"file:blue\" }, { alias = \"theirs\", kind = \"bearer\", token = \"file:main\", tenants = [\"red\"] }]\n";
    let house = House::before(keeper.origin.address, settings, "");
    for name in ["main", "blue"] {
        std::fs::write(house.folder.path().join(name), name).unwrap();
    }
    let standpipe = house.serve();
    let ask =
        |method, path, headers: &[(&str, &str)], body| standpipe.call(method, path, headers, body).status;
    assert_eq!(ask("GET", "/providers/alpha/x", &[], ""), 200);
    assert_eq!(ask("GET", "/providers/alpha/x", &[("x-key", "blue")], ""), 200);
    assert_eq!(ask("GET", "/providers/alpha/x?a=1&apikey=blue", &[], ""), 200);
    let json = ("content-type", "application/json");
    assert_eq!(ask("POST", "/db/pipes", &[json], "{\"key\":\"blue\",\"id\":\"p\"}"), 200);
    assert_eq!(ask("GET", "/db/pipes/p", &[], ""), 200);
    for asked in ["theirs", "unknown"] {
        assert_eq!(ask("GET", "/providers/alpha/x", &[("x-key", asked)], ""), 403, "{asked}");
    }
    assert_eq!(keeper.shown(), ["main", "blue", "blue", "blue", "blue"]);
    let said = keeper.origin.said();
    assert!(said.iter().all(|request| !request.contains("x-key") && !request.contains("apikey")), "{said:?}");
    assert!(said[3].ends_with("\r\n\r\n{\"id\":\"p\"}"), "{}", said[3]);
}

#[test]
fn keys_come_out_of_a_credentials_document_and_are_asked_for_by_organisation() {
    let keeper = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let settings = "credential_by = { header = \"x-key\" }\ncredentials_document = { from = [\"dir:keys\"], kind = \"basic\" }\n";
    let house = House::before(keeper.address, settings, "");
    let folder = house.folder.path().join("keys");
    std::fs::create_dir(&folder).unwrap();
    let document = |secret: &str| {
        format!(
            "broker: {{username: admin, password: adm1n}}\nprojects:\n- {{id: one, publicKey: a, privateKey: s1, roles: [{{groupId: g1}}]}}\norgs:\n- {{id: two, publicKey: b, privatekey: {secret}, roles: [{{orgId: o2}}]}}\n"
        )
    };
    std::fs::write(folder.join("a.yaml"), document("s2")).unwrap();
    let standpipe = house.serve();
    for key in ["one", "two", "o2"] {
        let answer = standpipe.call("GET", "/providers/alpha/x", &[("x-key", key)], "");
        assert_eq!(answer.status, 200, "{key} {}", answer.body);
    }
    let fields = ["YTpzMQ==", "YjpzMg==", "YjpzMg=="];
    for (request, field) in keeper.said().iter().zip(fields) {
        assert!(request.contains(&format!("Basic {field}")), "{request}");
    }
    std::fs::write(folder.join("new"), document("s3cret")).unwrap();
    std::fs::rename(folder.join("new"), folder.join("a.yaml")).unwrap();
    until("the changed key is read", || {
        standpipe.call("GET", "/providers/alpha/x", &[("x-key", "two")], "");
        keeper.said().last().unwrap().contains("Basic YjpzM2NyZXQ=")
    });
    std::fs::write(folder.join("a.yaml"), "broker: {username: admin, password: adm1n}\n").unwrap();
    let (code, text) = house.command(&["check"]);
    assert!(code == 1 && text.contains("provider[0].credentials_document: no API keys specified"), "{text}");
}

#[test]
fn a_search_asks_with_exchanged_tokens_and_a_caller_is_given_the_same_one() {
    let (alpha, beta, sts, login) = (Keeper::new(), Keeper::new(), Sts::new(), Login::new());
    beta.refuse("*");
    let callers = "callers = [\"oidc\"]\n[[provider]]\nname = \"alpha\"";
    let text = config(&alpha, &sts, "exchange", "").replace("[[provider]]\nname = \"alpha\"", callers);
    let (first, _) = text.split_once("[[provider]]\nname = \"open\"").unwrap();
    let second = first.split_once("[[provider]]").unwrap().1.replace("alpha", "beta");
    let second = second.replace(&alpha.origin.address.to_string(), &beta.origin.address.to_string());
    let house = House::new(&format!("{first}{}[[provider]]{second}", login.trusted()));
    std::fs::write(house.folder.path().join("client"), SECRET).unwrap();
    let standpipe = house.serve();
    let token = login.token("ann", serde_json::json!({}));
    let field = format!("Bearer {token}");
    let answer = standpipe.call("GET", "/db/pipes", &[("authorization", &field)], "");
    assert_eq!((answer.status, answer.header("standpipe-provider")), (200, Some("alpha")), "{}", answer.body);
    let (granted, shown) = (sts.granted(), alpha.shown());
    assert!(shown.len() == 2 && shown[0] == shown[1], "{shown:?}");
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={token}&subject_token_type=urn:ietf:params:oauth:token-type:jwt&audience=alpha"
    );
    let headers = [("authorization", &*field), ("content-type", "application/x-www-form-urlencoded")];
    let given = standpipe.call("POST", "/oauth2/token", &headers, &form);
    assert_eq!(
        (given.status, &given.json()["access_token"]),
        (200, &shown[0].clone().into()),
        "{}",
        given.body
    );
    assert_eq!(sts.granted(), granted, "it is the token mapping's");
}
