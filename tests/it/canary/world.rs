//! Two standpipes that know secrets of every kind, and careless company.

use std::net::SocketAddr;

use serde_json::json;

use crate::automatic::port;
use crate::support::{House, Login, Origin, ReferenceBroker, SECRET, Standpipe, Sts, password_hash, secret};

/// A provider behind a path for each way of treating what it is sent; what it says is as careless as can be.
fn careless() -> Origin {
    Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            let lower = request.to_lowercase();
            let path = request.split(' ').nth(1).unwrap();
            let answer = |status: &str, fields: &str, body: &str| {
                format!("HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
            };
            let echo = format!("x-echo: {}\r\n", request.replace("\r\n", " "));
            peer.wire.send(match path.split('/').nth(1).unwrap() {
                "digest" if !lower.contains("authorization: digest ") => answer(
                    "401 No",
                    "www-authenticate: Digest realm=\"a\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256\r\n",
                    "",
                ),
                "refusing" => answer("401 No", &format!("www-authenticate: Bearer\r\n{echo}"), &request),
                "failing" => answer("500 No", &echo, &request),
                "nonsense" => format!("{request}\r\n\r\n"),
                "twofold" => answer("200 OK", &format!("{echo}content-length: 1\r\n"), &request),
                "gone" => answer("410 Gone", &echo, &request),
                "link" => answer(
                    "200 OK",
                    "content-type: application/json\r\n",
                    &format!("{{\"KEY\":\"{}\"}}", secret("Made")),
                ),
                _ => answer("200 OK", "", "ok"),
            });
        }
    })
}

/// Two standpipes that log everything, and what they talk to.
pub struct World {
    pub front: House,
    pub standpipe: Standpipe,
    pub app: House,
    pub other: Standpipe,
    pub admin: SocketAddr,
    pub origin: Origin,
    pub sts: Sts,
    pub login: Login,
    /// Two brokers whose pipes are mediated.
    pub reference: [ReferenceBroker; 2],
}

pub const KINDS: [&str; 12] = [
    "basic",
    "bearer",
    "document",
    "digest",
    "exchange",
    "jwt-bearer",
    "oauth2",
    "issued",
    "passthrough",
    "refusing",
    "failing",
    "nonsense",
];

fn credential(kind: &str, sts: &Sts) -> String {
    let client =
        format!("token_url = \"{}\", client_id = \"standpipe\", client_secret = \"file:client\"", sts.url());
    let credential = match kind {
        "basic" => "{ kind = \"basic\", username = \"u\", password = \"file:password\" }".to_owned(),
        "bearer" | "failing" | "nonsense" => "{ kind = \"bearer\", token = \"file:bearer\" }".to_owned(),
        "digest" => "{ kind = \"digest\", username = \"u\", password = \"file:password\" }".to_owned(),
        "exchange" | "refusing" => {
            format!("{{ kind = \"exchange\", {client}, actor_token = \"file:actor\" }}")
        }
        "jwt-bearer" => format!("{{ kind = \"jwt-bearer\", {client} }}"),
        "oauth2" => format!("{{ kind = \"oauth2\", {client}, client_auth = \"post\" }}"),
        "issued" => "{ kind = \"issued\" }".to_owned(),
        "passthrough" => "{ kind = \"passthrough\" }".to_owned(),
        _ => return "credentials_document = { from = [\"file:document\"], kind = \"basic\" }\n".to_owned(),
    };
    format!("credential = {credential}\n")
}

/// What the configuration names, in files.
fn write_secrets(front: &House) {
    for name in ["password", "bearer", "actor", "data", "link", "admin.token"] {
        std::fs::write(front.folder.path().join(name), secret(&name.replace('.', ""))).unwrap();
    }
    std::fs::write(front.folder.path().join("client"), SECRET).unwrap();
    let document = format!(
        "broker: {{username: admin, password: {}}}\nprojects:\n- {{id: one, publicKey: a, privateKey: {}, roles: [{{groupId: g}}]}}\n",
        secret("Login"),
        secret("Document")
    );
    std::fs::write(front.folder.path().join("document"), document).unwrap();
}

impl World {
    /// Both serve.
    pub fn new() -> Self {
        let (origin, sts, login) = (careless(), Sts::new(), Login::new());
        let admin = SocketAddr::from(([127, 0, 0, 1], port()));
        let top = "threads = 2\n[log]\nlevel = \"trace\"\n[outbound]\nallow = [\"http://127.0.0.1:*\"]\n[[listener]]\naddress = \"127.0.0.1:0\"\n";
        let mut config = format!(
            "{top}callers = [\"oidc\", \"basic\"]\n[admin]\naddress = \"{admin}\"\ntoken_file = \"admin.token\"\n{}[[caller]]\nname = \"ann\"\npassword_hash = \"{}\"\n",
            login.trusted(),
            password_hash(&secret("Ann"))
        );
        for kind in KINDS {
            config += &format!(
                "[[provider]]\nname = \"{kind}\"\ndialect = \"cloudpipe\"\nurl = \"http://{}/{kind}\"\n{}",
                origin.address,
                credential(kind, &sts)
            );
        }
        config += &format!(
            "[[provider]]\nname = \"apps\"\ndialect = \"cloudpipe\"\n[provider.broker.resource.db]\ndata = {{ URI = \"https://db.example\", KEY = {{ secret = \"file:data\" }} }}\n[provider.broker.resource.made]\nsource = {{ kind = \"basic\" }}\n[provider.broker.resource.link]\nsource = {{ kind = \"http\", url = \"http://{}/link\", token = \"file:link\" }}\n",
            origin.address
        );
        let reference = [(); 2].map(|()| ReferenceBroker::new(json!({"PASSWORD": secret("Reference")})));
        for (name, resource, broker) in [("alpha", "ref-a", &reference[0]), ("beta", "ref-b", &reference[1])]
        {
            config += &format!(
                "[[provider]]\nname = \"{name}\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\nresources = [\"{resource}\"]\npipes = \"mediated\"\n",
                broker.origin.address
            );
        }
        let front = House::new(&config);
        write_secrets(&front);
        let app = House::new(&format!(
            "{top}[[provider]]\nname = \"apps\"\ndialect = \"cloudpipe\"\n[provider.broker.resource.app]\nsink = {{ kind = \"env-file\", path = \"app.env\" }}\n"
        ));
        for (resource, provider) in
            [("db", "apps"), ("made", "apps"), ("link", "apps"), ("ref-a", "alpha"), ("ref-b", "beta")]
        {
            let (code, text) =
                front.command(&["mappings", "set", "resource", resource, "--provider", provider]);
            assert_eq!(code, 0, "{text}");
        }
        let (standpipe, other) = (front.serve(), app.serve_broker());
        Self { front, standpipe, app, other, admin, origin, sts, login, reference }
    }
}
