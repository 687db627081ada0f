//! Providers' tokens that one standpipe gives another: used for their caller, and nowhere to be read.

use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use http::{Request, Response};
use serde_json::{Value, json};
use standpipe::assemble::{self, Front};
use standpipe::serve::Server;
use standpipe::telemetry::{AccessLog, Metrics};
use standpipe_api::{Body, Call, Delivery, Extension, Federation, Flow, Injection, Result, Route, Timestamp};

use crate::peers::{MAPPINGS, MAY, after, peer, port, provider, standpipe};
use crate::support::{Answer, House, Keeper, Login, SECRET, Standpipe, Sts, exchange, until};

const CALLER: &str = "c4ller-t0ken.of-ann";
const FOREIGN: &str = "f0reign-pr0vider-t0ken";

fn hash(token: &str) -> String {
    BASE64URL.encode(digest(&SHA256, token.as_bytes()))
}

/// A standpipe at a port that exchanges callers' tokens for `alpha`, and lets a peer give it some.
fn exchanging(port: u16, keeper: &Keeper, sts: &Sts, url: &str, may: &str) -> House {
    let house = House::new(&format!(
        "threads = 1\n[log]\nlevel = \"trace\"\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\ncredential = {{ kind = \"exchange\", token_url = \"{}\", client_id = \"standpipe\", client_secret = \"file:client\" }}\n[[provider]]\nname = \"open\"\ndialect = \"cloudpipe\"\nurl = \"http://127.0.0.1:1\"\n{}",
        keeper.origin.address,
        sts.url(),
        peer("west", url, may)
    ));
    std::fs::write(house.folder.path().join("client"), SECRET).unwrap();
    house
}

const MAY_TOKENS: &str = "may_inject = { providers = [\"alpha\", \"open\"], tokens = true }";

fn call(standpipe: &Standpipe, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    standpipe.call("GET", "/providers/alpha/x", &[("authorization", &bearer)], "").status
}

#[test]
fn a_token_that_a_peer_gave_is_used_for_its_caller_until_it_ends_or_is_revoked() {
    let (west, keeper, sts) = (Login::new(), Keeper::new(), Sts::new());
    let house = exchanging(0, &keeper, &sts, &west.url(), MAY_TOKENS);
    let standpipe = house.serve();
    let send = |method: &str, query: &str, tokens: Value| {
        let bearer = format!("Bearer {}", west.peer_token(standpipe.address, json!({})));
        let batch = json!({"given_at": after(0), "tokens": tokens}).to_string();
        let body = if method == "POST" { batch.as_str() } else { "" };
        standpipe.call(method, &format!("{MAPPINGS}{query}"), &[("authorization", &bearer)], body)
    };
    let token = |caller: &str, seconds: i64| json!({"caller": hash(caller), "provider": "alpha", "token": FOREIGN, "expires_at": after(seconds)});
    for _ in 0..2 {
        let given = send("POST", "", json!([token(CALLER, 600)]));
        assert_eq!((given.status, given.json()["written"].as_u64()), (200, Some(1)), "{}", given.body);
    }
    assert_eq!(call(&standpipe, CALLER), 200);
    assert_eq!((keeper.shown(), sts.asked()), (vec![FOREIGN.to_owned()], 0), "nobody here obtained it");
    assert_eq!((call(&standpipe, "an0ther"), sts.granted()), (200, 1), "it is one caller's only");
    let own = send("POST", "", json!([token("an0ther", 600)])).json();
    assert_eq!(own["kept"], json!([{"at": "tokens[0]", "origin": "learned"}]));
    assert!(house.command(&["tokens", "list"]).1.lines().any(|line| line.ends_with(" west")));
    let (code, text) = house.command(&["peers", "revoke", "west", "--provider", "alpha"]);
    assert_eq!((code, text.as_str()), (0, "0 mappings and 1 tokens are revoked\n"));
    assert_eq!((call(&standpipe, CALLER), sts.granted()), (200, 2), "its own way");
    let short = send("POST", "", json!([token("th1rd", 3)]));
    assert_eq!(short.json()["written"], 1);
    assert_eq!((call(&standpipe, "th1rd"), sts.granted()), (200, 2));
    until("it has ended", || call(&standpipe, "th1rd") == 200 && sts.granted() == 3);
    let open = json!({"caller": hash(CALLER), "provider": "open", "token": FOREIGN, "expires_at": after(60)});
    for (row, bad) in [("no caller's own", open), ("too long", token(CALLER, 3700))] {
        let answer = send("POST", "", json!([token("f0urth", 60), bad]));
        assert_eq!((answer.status, answer.body.contains("tokens[1]")), (403, true), "{row}: {}", answer.body);
    }
    let split =
        json!({"caller": hash(CALLER), "provider": "alpha", "token": "a\nb", "expires_at": after(60)});
    assert_eq!(send("POST", "", json!([split])).status, 400);
    until("nothing is there of refused batches", || {
        send("GET", "", json!([])).json() == json!({"mappings": []})
    });
    let log = standpipe.log();
    drop(standpipe);
    for secret in [CALLER, FOREIGN, &hash(CALLER)] {
        assert!(!log.contains(secret), "{secret}");
        for file in std::fs::read_dir(house.folder.path().join("standpipe-data")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{secret}");
        }
    }
}

#[test]
fn a_peer_without_the_right_to_tokens_gives_none() {
    let (west, keeper, sts) = (Login::new(), Keeper::new(), Sts::new());
    let standpipe = exchanging(0, &keeper, &sts, &west.url(), MAY).run();
    let token =
        json!({"caller": hash(CALLER), "provider": "alpha", "token": FOREIGN, "expires_at": after(60)});
    let bearer = format!("Bearer {}", west.peer_token(standpipe.address, json!({})));
    let batch = json!({"given_at": after(0), "tokens": [token]}).to_string();
    let answer = standpipe.call("POST", MAPPINGS, &[("authorization", &bearer)], &batch);
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(!answer.body.contains(FOREIGN) && !answer.body.contains(&hash(CALLER)));
}

/// Gives the peer `b` a token for whoever calls, while the call waits.
struct Giver;

#[async_trait(?Send)]
impl Extension for Giver {
    fn name(&self) -> &'static str {
        "giver"
    }

    fn routes(&self) -> Vec<Route> {
        vec![Route::get("/give")]
    }

    async fn take_over(&self, _: &mut Call, _: &mut Request<Body>, fed: &dyn Federation) -> Result<Flow> {
        let token = Injection::Token {
            caller_token: CALLER.to_owned().into(),
            provider: "alpha".into(),
            remote_scope: None,
            provider_token: FOREIGN.to_owned().into(),
            expires_at: Timestamp::now().plus(Duration::from_secs(600)),
        };
        let unknown = fed.inject(&"nobody".into(), std::slice::from_ref(&token), Delivery::Outbox).await;
        assert!(unknown.is_err());
        fed.inject(&"b".into(), &[token], Delivery::Now(Duration::from_secs(10))).await?;
        Ok(Flow::Respond(Response::new(Body::from("given"))))
    }
}

#[test]
fn an_extension_gives_a_token_before_it_goes_on() {
    let (keeper, sts, alpha) = (Keeper::new(), Sts::new(), provider(&[]));
    let (at_a, at_b) = (port(), port());
    let url = |port| format!("http://127.0.0.1:{port}");
    let one = standpipe(at_a, &alpha, &alpha, &peer("b", &url(at_b), ""));
    let other = exchanging(at_b, &keeper, &sts, &url(at_a), MAY_TOKENS);
    let mut extensions = standpipe_extensions::all();
    extensions.push(Box::new(Giver));
    let reserved = standpipe_extensions::RESERVED;
    let (config, parts) = assemble::load(Some(&one.config), extensions, reserved, Front::Proxy).unwrap();
    let a = Server::start(config, parts, &Metrics::new(), AccessLog::OFF).unwrap();
    let give = || {
        let request = b"GET /give HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        Answer::parse(&exchange(a.addresses()[0], request).unwrap()).unwrap()
    };
    assert_eq!(give().status, 503, "nobody is there to take it");
    let b = other.serve();
    assert_eq!(give().body, "given");
    assert_eq!((call(&b, CALLER), keeper.shown(), sts.asked()), (200, vec![FOREIGN.to_owned()], 0));
    a.stop();
}
