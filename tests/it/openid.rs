//! A real OpenID provider: callers log in there, standpipe exchanges their tokens there, and it comes and goes. What a
//! token endpoint can get wrong beyond that is in `tokens.rs`.

use serde_json::json;

use crate::support::{
    Answer, House, Keeper, OpenId, Origin, SECRET, Standpipe, Wire, bearer, claims, now, until,
};

/// A standpipe whose callers log in at the provider; `alpha` is reached by exchange, `own` with client credentials and
/// `open` without either.
fn house(openid: &OpenId, keeper: &Origin, more: &str) -> House {
    let mut config = format!(
        "threads = 2\n{}[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"oidc\"]\n",
        openid.trusted()
    );
    let client = format!(
        "token_url = \"{}/token\", client_id = \"standpipe\", client_secret = \"file:client\"",
        openid.url()
    );
    for (name, credential) in [
        ("alpha", format!("{{ kind = \"exchange\", {client}, audience = \"urn:alpha\", timeout = \"3s\" }}")),
        ("own", format!("{{ kind = \"oauth2\", {client}, resource = \"urn:alpha\" }}")),
        ("open", "{ kind = \"bearer\", token = \"file:client\" }".to_owned()),
    ] {
        config += &format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\nconcurrency = 32\nqueue_wait = \"20s\"\ncredential = {credential}\n",
            keeper.address
        );
    }
    let house = House::new(&(config + more));
    std::fs::write(house.folder.path().join("client"), SECRET).unwrap();
    house
}

fn get(standpipe: &Standpipe, provider: &str, token: &str) -> Answer {
    let field = format!("Bearer {token}");
    standpipe.call("GET", &format!("/providers/{provider}/x"), &[("authorization", &field)], "")
}

#[test]
fn who_logs_in_reaches_a_provider_with_a_token_for_that_provider() {
    let Some(openid) = OpenId::start(600) else { return };
    let keeper = Keeper::new();
    let rules = "[[access]]\ngroups = [\"ops\", \"barred\"]\n[[access]]\ntenants = [\"red\"]\nproviders = [\"open\"]\n";
    let standpipe = house(&openid, &keeper.origin, rules).run();
    let ann = openid.login("ann");
    for _ in 0..3 {
        assert_eq!(get(&standpipe, "alpha", &ann).status, 200);
    }
    assert_eq!(get(&standpipe, "own", &ann).status, 200);
    let shown = keeper.shown();
    let (given, own) = (claims(&shown[0]), claims(&shown[3]));
    let about =
        |token: &serde_json::Value| json!([token["iss"], token["aud"], token["sub"], token["act"]["sub"]]);
    assert_eq!(about(&given), json!([openid.url(), "https://alpha.example", "ann", "standpipe"]));
    assert_eq!(about(&own), json!([openid.url(), "https://alpha.example", "standpipe", null]));
    assert!(shown[..3].iter().all(|token| *token == shown[0]), "one token for all calls");
    assert_eq!(openid.granted("token-exchange", "ann"), 1);
    let bob = openid.login("bob");
    assert_eq!((get(&standpipe, "alpha", &bob).status, get(&standpipe, "open", &bob).status), (404, 200));
    let barred = get(&standpipe, "alpha", &openid.login("mallory"));
    assert!(barred.status == 403 && barred.body.contains("access_denied"), "{}", barred.body);
    let meant_for_alpha = get(&standpipe, "open", &shown[0]);
    assert_eq!(meant_for_alpha.status, 401, "a token for another audience lets nobody in");
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={ann}&subject_token_type=urn:ietf:params:oauth:token-type:jwt&audience=alpha"
    );
    let field = format!("Bearer {ann}");
    let headers = [("authorization", &*field), ("content-type", "application/x-www-form-urlencoded")];
    let given = standpipe.call("POST", "/oauth2/token", &headers, &form);
    assert_eq!((given.status, &given.json()["access_token"]), (200, &json!(shown[0])), "{}", given.body);
}

#[test]
fn a_thousand_first_calls_at_once_are_one_exchange_at_the_openid_provider() {
    let Some(openid) = OpenId::start(600) else { return };
    let keeper = Keeper::new();
    let house = house(&openid, &keeper.origin, "");
    let standpipe = house.serve();
    let ann = openid.login("ann");
    assert_eq!(get(&standpipe, "open", &ann).status, 200, "from here on ann is known");
    openid.hangs();
    let request = format!(
        "GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ann}\r\nconnection: close\r\n\r\n"
    );
    let mut clients: Vec<Wire> = (0..1000).map(|_| Wire::connect(standpipe.address)).collect();
    clients.iter_mut().for_each(|client| client.send(&request));
    until("all of them wait", || house.figure("standpipe_requests_in_flight") >= 1000.0);
    openid.goes_on();
    for client in &mut clients {
        assert_eq!(Answer::parse(client.rest().as_bytes()).unwrap().status, 200);
    }
    assert_eq!(openid.granted("token-exchange", "ann"), 1);
    let exchanges = house.figure("standpipe_token_exchanges_total{provider=\"alpha\",outcome=\"success\"}");
    assert!((0.5..1.5).contains(&exchanges), "{exchanges}");
}

#[test]
fn tokens_of_the_openid_provider_are_renewed_before_they_end() {
    let Some(openid) = OpenId::start(2) else { return };
    // It takes no token that has ended; clocks may differ by a second.
    let keeper = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let good = claims(&bearer(&request).unwrap())["exp"].as_u64().unwrap() + 1 >= now();
            peer.wire.send(match good {
                true => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
                false => "HTTP/1.1 401 No\r\nwww-authenticate: Bearer\r\ncontent-length: 2\r\n\r\nno",
            });
        }
    });
    let standpipe = house(&openid, &keeper, "").run();
    let ann = openid.login("ann");
    until("the token is renewed twice, and no call notices", || {
        assert_eq!(get(&standpipe, "alpha", &ann).status, 200);
        openid.granted("token-exchange", "ann") >= 3
    });
}

#[test]
fn a_token_that_a_provider_refuses_is_exchanged_once_more_at_the_openid_provider() {
    let Some(openid) = OpenId::start(600) else { return };
    let keeper = Keeper::new();
    let standpipe = house(&openid, &keeper.origin, "").run();
    let ann = openid.login("ann");
    assert_eq!(get(&standpipe, "alpha", &ann).status, 200);
    keeper.refuse(&keeper.shown()[0]);
    let field = format!("Bearer {ann}");
    let post = standpipe.call("POST", "/providers/alpha/x", &[("authorization", &field)], "{\"a\":1}");
    assert_eq!((post.status, openid.granted("token-exchange", "ann")), (200, 2), "{}", post.body);
    let said = keeper.origin.said();
    assert!(said.len() == 3 && said[1..].iter().all(|request| request.ends_with("{\"a\":1}")), "{said:?}");
    let shown = keeper.shown();
    assert!(shown[1] == shown[0] && shown[2] != shown[0] && claims(&shown[2])["sub"] == "ann");
}

#[test]
fn while_the_openid_provider_is_away_only_what_needs_it_fails_and_says_so() {
    let Some(mut openid) = OpenId::start(600) else { return };
    let keeper = Keeper::new();
    let house = house(&openid, &keeper.origin, "");
    let standpipe = house.serve();
    let [ann, late, cut_off] = [(); 3].map(|()| openid.login("ann"));
    assert_eq!(get(&standpipe, "alpha", &ann).status, 200);
    let fails = |token: &str, status, word| {
        let answer = get(&standpipe, "alpha", token);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(answer.json()["fault"], "provider:alpha");
        assert!(
            answer.body.contains("token endpoint of alpha") && answer.body.contains(word),
            "{}",
            answer.body
        );
        assert_eq!(get(&standpipe, "open", token).status, 200, "another provider is not disturbed");
        assert_eq!(get(&standpipe, "alpha", &ann).status, 200, "nor is who has a token");
        answer
    };
    openid.hangs();
    fails(&late, 504, "in time");
    openid.goes_on();
    until("it answers the late one too", || get(&standpipe, "alpha", &late).status == 200);
    openid.kill();
    assert!(fails(&cut_off, 503, "cannot be reached").header("retry-after").is_some());
    openid.comes_back();
    until("it is asked again", || get(&standpipe, "alpha", &cut_off).status == 200);
    let client = house.folder.path().join("client");
    std::fs::write(&client, "wrong").unwrap();
    until("standpipe is refused itself", || {
        let answer = get(&standpipe, "alpha", &openid.login("ann"));
        answer.status == 502 && answer.body.contains("invalid_client")
    });
    fails(&openid.login("ann"), 502, "refuses standpipe itself");
    std::fs::write(&client, SECRET).unwrap();
    let last = openid.login("bob");
    until("the corrected secret is read", || get(&standpipe, "alpha", &last).status == 200);
}

#[test]
fn keys_that_the_openid_provider_did_not_have_before_are_fetched() {
    let Some(mut openid) = OpenId::start(600) else { return };
    let keeper = Keeper::new();
    let standpipe = house(&openid, &keeper.origin, "").run();
    let before = openid.login("ann");
    assert_eq!(get(&standpipe, "open", &before).status, 200);
    openid.kill();
    openid.loses_its_keys();
    openid.comes_back();
    let after = openid.login("ann");
    until("the new keys are known", || get(&standpipe, "open", &after).status == 200);
    assert_eq!(get(&standpipe, "alpha", &after).status, 200);
}
