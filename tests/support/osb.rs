//! A scripted OSB broker: a catalog, and any answer to everything else.

use serde_json::{Value, json};

use super::{House, Origin};

/// A message, or nothing at all.
pub type Answered = Option<String>;

/// A service with the plan `<id>-small`.
pub fn service(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "description": "d", "bindable": true, "plans": [
        {"id": format!("{id}-small"), "name": "small", "description": "d"},
    ]})
}

/// An HTTP message with a JSON body.
pub fn message(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A broker with these services; `None` from the script: the connection hangs until the test tells it to go on.
pub fn broker(services: &[Value], script: fn(&str) -> Answered) -> Origin {
    telling(services, move |request, _| script(request))
}

/// The same, with a script that knows whether the test has told it to go on.
pub fn telling(
    services: &[Value],
    script: impl Fn(&str, bool) -> Answered + Send + Sync + 'static,
) -> Origin {
    let catalog = json!({ "services": services }).to_string();
    Origin::new(move |mut peer| {
        while let Some(request) = peer.request() {
            if request.starts_with("GET /v2/catalog ") {
                peer.wire.send(message("200 OK", &catalog));
            } else if let Some(answer) = script(&request, peer.told()) {
                peer.wire.send(answer);
            } else {
                super::until("the test goes on", || peer.told());
                return;
            }
        }
    })
}

/// Lets in the callers `red` and `blue`, each of a tenant of its own and with the password `pw`, and nobody else.
pub fn tenants(house: &House) {
    let hash = super::password_hash("pw");
    let caller = |name: &str| {
        format!("[[caller]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\ntenant = \"{name}\"\n")
    };
    let config = std::fs::read_to_string(&house.config).unwrap();
    let config = config.replace("[[listener]]\n", "[[listener]]\ncallers = [\"basic\"]\n");
    std::fs::write(&house.config, format!("{config}{}{}", caller("red"), caller("blue"))).unwrap();
}

/// A standpipe in front of OSB brokers, with more settings of each and at the top.
pub fn front(brokers: &[(&str, &Origin, &str)], top: &str) -> House {
    let mut config = format!("{top}[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for (name, origin, settings) in brokers {
        config += &format!(
            "[[provider]]\nname = \"{name}\"\ndialect = \"osb\"\nurl = \"http://{}\"\n{settings}\n",
            origin.address
        );
    }
    House::new(&config)
}
