//! Who calls, by tokens of an issuer and by certificates, and what standpipe issues itself.

use serde_json::json;

use crate::support::{Answer, House, Login, Origin, Standpipe, claims, now, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A standpipe that knows callers by their tokens, in front of a provider that takes standpipe's.
fn house(login: &Login, provider: &Origin) -> House {
    House::new(&format!(
        "{}[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"oidc\"]\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\ncredential = {{ kind = \"issued\", audience = \"https://alpha.example\" }}\npeer_bearer = false\n[[provider]]\nname = \"open\"\ndialect = \"cloudpipe\"\nurl = \"http://127.0.0.1:1\"\n",
        login.trusted(),
        provider.address
    ))
}

fn get(standpipe: &Standpipe, token: &str) -> Answer {
    standpipe.call("GET", "/providers/alpha/x", &[("authorization", &format!("Bearer {token}"))], "")
}

fn exchange(standpipe: &Standpipe, client: &str, form: &str) -> Answer {
    let form = form
        .replace("GRANT", "grant_type=urn:ietf:params:oauth:grant-type:token-exchange")
        .replace("JWT", "urn:ietf:params:oauth:token-type:jwt");
    let headers = [
        ("authorization", &*format!("Bearer {client}")),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    standpipe.call("POST", "/oauth2/token", &headers, &form)
}

#[test]
fn a_caller_comes_with_a_token_and_the_provider_gets_one_of_standpipes() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let standpipe = house(&login, &origin).run();
    let nobody = standpipe.get("/providers/alpha/x");
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some("bearer realm=\"standpipe\"")));
    let token = login.token("ann", json!({"org": "blue", "groups": ["ops"], "exp": now() + 100}));
    assert_eq!(get(&standpipe, &token).status, 200);
    assert_eq!(get(&standpipe, &token).status, 200);
    let request = origin.first();
    let given = request.to_lowercase().find("authorization: bearer ").map(|at| at + 22).unwrap();
    let given = request[given..].lines().next().unwrap();
    assert_ne!(given, token, "the caller's own token stays here");
    let said = claims(given);
    assert_eq!((&said["sub"], &said["aud"]), (&json!("oidc:corp:ann"), &json!("https://alpha.example")));
    assert_eq!((&said["tenant"], &said["groups"]), (&json!("blue"), &json!(["ops"])));
    assert!(said["exp"].as_u64().unwrap() <= now() + 100, "it does not outlive the caller's own");
    assert_eq!(said["iss"], json!(format!("http://{}", standpipe.address)));
    assert!(origin.said().iter().all(|request| request.contains(given)), "one token for both calls");
    let keys = login.origin.said().len();
    assert_eq!(keys, 2, "the issuer was asked once for each document");
    let expired = get(&standpipe, &login.token("ann", json!({"exp": now() - 60})));
    let challenge = expired.header("www-authenticate");
    assert_eq!(
        (expired.status, challenge),
        (401, Some("bearer realm=\"standpipe\", error=\"invalid_token\""))
    );
    assert!(!expired.body.contains("xpired"), "why is for the log: {}", expired.body);
    assert!(!standpipe.log().contains(&token) && !standpipe.log().contains(given));
}

#[test]
fn whoever_brings_a_credential_is_not_let_in_without_one() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let config = format!(
        "{}[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"basic\", \"oidc\", \"anonymous\"]\n[[access]]\ncallers = [\"oidc:corp:ann\"]\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n",
        login.trusted(),
        origin.address
    );
    let standpipe = House::new(&config).run();
    assert_eq!(get(&standpipe, &login.token("ann", json!({}))).status, 200);
    assert_eq!(get(&standpipe, &login.token("ann", json!({"exp": now() - 600}))).status, 401);
    let wrong = standpipe.call("GET", "/providers/alpha/x", &[("authorization", "Basic YTpi")], "");
    assert_eq!((wrong.status, standpipe.get("/providers/alpha/x").status), (401, 404));
}

#[test]
fn a_token_of_a_trusted_issuer_is_no_brokers_whatever_listener_it_comes_through() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let config = format!(
        "{}[[listener]]\naddress = \"127.0.0.1:0\"\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n",
        login.trusted(),
        origin.address
    );
    let standpipe = House::new(&config).run();
    let token = login.token("ann", json!({}));
    let bearer = format!("Bearer {token}");
    assert_eq!(standpipe.call("GET", "/db/pipes/x", &[("authorization", &bearer)], "").status, 200);
    assert!(!origin.first().contains(&token), "{}", origin.first());
}

#[test]
fn while_the_issuer_is_down_nobody_is_called_a_stranger() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    login.fails();
    let standpipe = house(&login, &origin).run();
    let answer = get(&standpipe, &login.token("ann", json!({})));
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.header("retry-after").is_some());
}

#[test]
fn standpipe_publishes_its_keys_and_keeps_them_over_a_restart() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let house = house(&login, &origin);
    let mut standpipe = house.serve();
    let document = standpipe.get("/.well-known/openid-configuration").json();
    assert_eq!(document["issuer"], json!(format!("http://{}", standpipe.address)));
    let keys = standpipe.get("/.well-known/jwks.json").json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    standpipe.kill();
    let standpipe = house.serve();
    assert_eq!(standpipe.get("/.well-known/jwks.json").json(), keys);
}

#[test]
fn a_token_is_exchanged_for_one_that_a_provider_takes() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let standpipe = house(&login, &origin).run();
    let ann = login.token("ann", json!({"exp": now() + 90}));
    let robot = login.token("robot", json!({}));
    let form = format!("GRANT&subject_token={ann}&subject_token_type=JWT&audience=alpha");
    let answer = exchange(&standpipe, &robot, &form);
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{}", answer.body);
    let answer = answer.json();
    assert!(answer["expires_in"].as_u64().unwrap() <= 90);
    let said = claims(answer["access_token"].as_str().unwrap());
    assert_eq!((&said["sub"], &said["aud"]), (&json!("oidc:corp:ann"), &json!("https://alpha.example")));
    let acting = format!("{form}&actor_token={robot}&actor_token_type=JWT");
    let acting = exchange(&standpipe, &robot, &acting).json();
    let said = claims(acting["access_token"].as_str().unwrap());
    assert_eq!(said["act"], json!({"sub": "robot", "iss": login.url()}));
}

#[test]
fn an_exchange_that_cannot_be_says_why() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let standpipe = house(&login, &origin).run();
    let ann = login.token("ann", json!({"may_act": {"sub": "somebody-else"}}));
    let (old, robot) = (login.token("ann", json!({"exp": now() - 90})), login.token("robot", json!({})));
    let form =
        |subject: &str, more: &str| format!("GRANT&subject_token={subject}&subject_token_type=JWT{more}");
    for (form, status, error) in [
        (form(&robot, ""), 400, "invalid_target"),
        (form(&robot, "&audience=nobody"), 400, "invalid_target"),
        (form(&robot, "&audience=alpha&audience=open"), 400, "invalid_target"),
        (form(&robot, "&audience=open"), 400, "invalid_target"),
        (form(&old, "&audience=alpha"), 400, "invalid_request"),
        (form(&ann, "&audience=alpha"), 400, "invalid_request"),
        (form("x.y.z", "&audience=alpha"), 400, "invalid_request"),
        ("grant_type=password".into(), 400, "unsupported_grant_type"),
    ] {
        let answer = exchange(&standpipe, &robot, &form);
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (status, &json!(error)),
            "{form}: {}",
            answer.body
        );
    }
    let stranger = exchange(&standpipe, "nonsense", &form(&robot, "&audience=alpha"));
    assert_eq!((stranger.status, &stranger.json()["error"]), (401, &json!("invalid_client")));
    assert!(stranger.header("www-authenticate").is_some());
}

#[test]
fn rules_for_tenants_and_groups_are_about_what_a_token_says_and_hold_for_exchanges() {
    let (login, origin) = (Login::new(), Origin::answering(OK));
    let front = house(&login, &origin);
    let mut config = std::fs::read_to_string(&front.config).unwrap();
    config += "[[access]]\ntenants = [\"blue\"]\ngroups = [\"op*\"]\nproviders = [\"alpha\"]\n";
    config += "[[access]]\ncallers = [\"oidc:corp:robot\"]\nproviders = [\"open\"]\n";
    std::fs::write(&front.config, config).unwrap();
    let standpipe = front.serve();
    let token = |org: &str, groups| login.token("ann", json!({"org": org, "groups": groups}));
    let (seen, unseen) = (token("blue", ["x", "ops"]), token("blue", ["x", "y"]));
    assert_eq!(get(&standpipe, &seen).status, 200);
    assert_eq!(get(&standpipe, &unseen).status, 404);
    assert_eq!(get(&standpipe, &token("red", ["ops", "y"])).status, 404);
    let robot = login.token("robot", json!({}));
    let form = |subject: &str, audience| {
        format!("GRANT&subject_token={subject}&subject_token_type=JWT&audience={audience}")
    };
    assert_eq!(exchange(&standpipe, &robot, &form(&seen, "alpha")).status, 200);
    let (kept, unknown) = (form(&unseen, "alpha"), form(&unseen, "omega"));
    let [kept, unknown] = [kept, unknown].map(|form| exchange(&standpipe, &robot, &form));
    assert_eq!((kept.status, &kept.body, &kept.head), (400, &unknown.body, &unknown.head));
    until("the refusal is remembered", || {
        let (_, audit) = front.command(&["audit", "list", "--caller", "oidc:corp:robot"]);
        assert!(!audit.contains(&unseen), "{audit}");
        audit.lines().any(|line| line.contains("/oauth2/token") && line.contains("access:unseen"))
    });
}
