//! "I could not ask" is never "it does not exist".

use crate::support::{House, Scripted, until};

#[test]
fn a_dead_broker_is_named_and_comes_back_without_help() {
    let [one, two] = [House::broker("alpha", 0, &["db"]), House::broker("beta", 0, &["web"])];
    let (mut alpha, beta) = (one.serve_broker(), two.serve_broker());
    let front = House::in_front_of(&[("alpha", alpha.address, "\"db\""), ("beta", beta.address, "\"web\"")]);
    let standpipe = front.serve();
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"p"}"#).status, 201);
    alpha.kill();

    let pipes = standpipe.get("/pipes");
    assert_eq!((pipes.status, pipes.header("standpipe-partial")), (200, Some("alpha;reason=unreachable")));
    assert_eq!(standpipe.get("/pipes?strict=true").status, 503);
    let read = standpipe.get("/db/pipes/p");
    assert_eq!((read.status, &read.json()["fault"]), (503, &"provider:alpha".into()));
    assert!(read.header("retry-after").is_some());
    assert_eq!(standpipe.post("/db/pipes", r#"{"id":"q"}"#).status, 502);
    assert_eq!(standpipe.get("/web/pipes").status, 200, "the other is not disturbed");
    let unknown = standpipe.get("/unknown/pipes");
    assert_eq!((unknown.status, &unknown.json()["candidates"]), (503, &serde_json::json!(["alpha"])));

    let again = House::broker("alpha", alpha.address.port(), &["db"]);
    std::fs::copy(&again.config, &one.config).unwrap();
    let _alpha = one.serve_broker();
    until("alpha answers again", || standpipe.get("/db/pipes/p").status == 200);
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    let broken = Scripted::answering("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
    let front = House::in_front_of(&[("alpha", broken.address, "\"db\"")]);
    let standpipe = front.serve();
    let request = format!(
        "GET /providers/alpha/x HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        standpipe.address
    );
    let answer = crate::support::exchange(standpipe.address, request.as_bytes());
    let whole = answer.as_deref().and_then(crate::support::Answer::parse).is_some_and(|answer| {
        answer
            .header("content-length")
            .is_none_or(|length| length.parse::<usize>().unwrap() == answer.body.len())
    });
    assert!(!whole, "{answer:?}");
}

#[test]
fn nonsense_is_the_providers_fault() {
    let odd = Scripted::answering("SSH-2.0-OpenSSH_9.2\r\n");
    let front = House::in_front_of(&[("alpha", odd.address, "\"db\"")]);
    let standpipe = front.serve();
    let answer = standpipe.get("/db/pipes");
    assert_eq!((answer.status, &answer.json()["fault"]), (502, &"provider:alpha".into()));
}

#[test]
fn who_was_silent_in_a_search_is_asked_again_when_it_is_back() {
    let [one, two] = [House::broker("alpha", 0, &["both"]), House::broker("beta", 0, &["both"])];
    let (alpha, mut beta) = (one.serve_broker(), two.serve_broker());
    let front = House::new(&format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[resolve]\nnegative_cache = \"100ms\"\n
         [[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n
         [[provider]]\nname = \"beta\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\nbreaker = {{ failures = 1000, open = \"1s\" }}\n",
        alpha.address, beta.address
    ));
    let standpipe = front.serve();
    beta.kill();
    assert_eq!(standpipe.get("/both/pipes").status, 200, "alpha has it");
    let (_, listed) = front.command(&["mappings", "list"]);
    assert!(!listed.contains("both"), "beta was not heard: {listed}");

    let again = House::broker("beta", beta.address.port(), &["both"]);
    std::fs::copy(&again.config, &two.config).unwrap();
    let _beta = two.serve_broker();
    until("both are heard", || standpipe.get("/both/pipes").status == 409);
}
