//! `standpipe demo`: two cloudpipe brokers and two service brokers, each on a port of its own, and a standpipe in front of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::embedded;
use crate::assemble::Front;
use crate::serve::Server;

/// Runs until Ctrl-C.
///
/// # Errors
/// What kept it from starting.
pub(super) fn run(data_dir: Option<PathBuf>, port: u16, out: &mut dyn Write) -> Result<ExitCode, String> {
    let wrong = |error: std::io::Error| error.to_string();
    let temporary = tempfile::tempdir().map_err(wrong)?;
    let folder = data_dir.unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let alpha = start(&folder, "alpha", ALPHA, Front::Broker)?;
    let beta = start(&folder, "beta", BETA, Front::Broker)?;
    let databases = start(&folder, "databases", DATABASES, Front::Broker)?;
    let queues = start(&folder, "queues", QUEUES, Front::Broker)?;
    let urls = [&alpha, &beta, &databases, &queues]
        .map(|server| server.addresses().first().map_or_else(String::new, |at| format!("http://{at}")));
    let [alpha_url, beta_url, databases_url, queues_url] = &urls;
    let front = FRONT
        .replace("PORT", &port.to_string())
        .replace("ALPHA", alpha_url)
        .replace("BETA", beta_url)
        .replace("DATABASES", databases_url)
        .replace("QUEUES", queues_url);
    let standpipe = start(&folder, "standpipe", &front, Front::Proxy)?;
    let url = standpipe.running().config.public_url.clone();
    let text = TO_TRY
        .replace("FOLDER", &folder.display().to_string())
        .replace("ALPHA", alpha_url)
        .replace("BETA", beta_url)
        .replace("DATABASES", databases_url)
        .replace("QUEUES", queues_url)
        .replace("URL", &url);
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(wrong)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
    runtime
        .block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
            }
        })
        .map_err(wrong)?;
    [standpipe, queues, databases, beta, alpha].into_iter().for_each(Server::stop);
    Ok(ExitCode::SUCCESS)
}

fn start(folder: &Path, name: &str, text: &str, front: Front) -> Result<Server, String> {
    embedded::start(&folder.join(format!("{name}.toml")), text, front)
        .map_err(|error| format!("{name}: {error}"))
}

const ALPHA: &str = r#"# The provider's side: a database that offers itself.
data_dir = "alpha"
threads = 1
[outbound]
allow = ["http://127.0.0.1:*"]
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "alpha"
dialect = "cloudpipe"
[provider.broker.resource.db]
data = { URI = "postgresqls://db.alpha.example:5432/main" }
[[provider.broker.resource.db.offers]]
name = "postgres"
protos = ["postgresqls"]
"#;

const BETA: &str = r#"# The consumer's side: an app that needs a database.
data_dir = "beta"
threads = 1
[outbound]
allow = ["http://127.0.0.1:*"]
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "beta"
dialect = "cloudpipe"
[provider.broker.resource.frontend]
[[provider.broker.resource.frontend.needs]]
name = "database"
protos = ["postgresqls"]
max_pipes = 1
"#;

const DATABASES: &str = r#"# An Open Service Broker: databases, made in two steps.
data_dir = "databases"
threads = 1
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "databases"
dialect = "osb"
[provider.osb_broker.instances]
dashboard_url = "https://databases.example/{{instance_id}}"
create = { async = true, simulate = { steps = [{ description = "starting a machine", delay = "1s" }, { description = "making the database", delay = "1s" }] } }
[provider.osb_broker.bindings]
credentials = { uri = "postgresqls://{{binding_id}}:{{password}}@db.example:5432/{{instance_id}}" }
[[provider.osb_broker.services]]
id = "postgresql-service"
name = "postgresql"
description = "A PostgreSQL database"
bindable = true
plan_updateable = true
bindings_retrievable = true
binding_rotatable = true
metadata = { documentationUrl = "https://databases.example/docs" }
plans = [
    { id = "postgresql-free", name = "free", description = "Shared, 1 GB" },
    { id = "postgresql-small", name = "small", description = "20 GB", free = false, metadata = { costs = [{ amount = { usd = 0.06 }, unit = "HOURLY" }] } },
]
"#;

const QUEUES: &str = r#"# Another: queues, made at once.
data_dir = "queues"
threads = 1
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "queues"
dialect = "osb"
[provider.osb_broker.bindings]
credentials = { uri = "amqps://{{binding_id}}:{{password}}@mq.example/{{instance_id}}" }
[[provider.osb_broker.services]]
id = "rabbitmq-service"
name = "rabbitmq"
description = "A message queue"
bindable = true
plans = [{ id = "rabbitmq-free", name = "free", description = "Shared" }]
"#;

const FRONT: &str = r#"# One endpoint in front of all.
data_dir = "standpipe"
[[listener]]
address = "127.0.0.1:PORT"
[[provider]]
name = "alpha"
dialect = "cloudpipe"
url = "ALPHA"
resources = ["db"]
[[provider]]
name = "beta"
dialect = "cloudpipe"
url = "BETA"
resources = ["frontend"]
[[provider]]
name = "databases"
dialect = "osb"
url = "DATABASES"
[[provider]]
name = "queues"
dialect = "osb"
url = "QUEUES"
"#;

const TO_TRY: &str = r#"standpipe listens on URL
behind it: alpha (ALPHA) has the database `db`, beta (BETA) has the app `frontend`;
the service brokers databases (DATABASES) and queues (QUEUES) sell postgresql and rabbitmq
data and configuration: FOLDER

What is there, from both brokers:
  curl URL/offers
  curl URL/needs

Connect the app to the database: bind the offer, bind the need, hand the data over.
  curl -H 'content-type: application/json' -d '{"id":"frontend"}' URL/db/offers/postgres/bindings
  curl -H 'content-type: application/json' -d '{"id":"db"}' URL/frontend/needs/database/bindings
  curl URL/db/pipes/frontend
  curl -X PATCH -H 'content-type: application/json' \
       -d '{"other":{"data":{"URI":"postgresqls://db.alpha.example:5432/main"}}}' URL/frontend/pipes/db
  curl URL/pipes

Or let the brokers hand it over: each end learns where the other one is and who signs for it; then change something.
  curl -X PATCH -H 'content-type: application/json' \
       -d '{"other":{"uri":"ALPHA/db/pipes/frontend","issuer":"ALPHA"}}' URL/frontend/pipes/db
  curl -X PATCH -H 'content-type: application/json' \
       -d '{"other":{"uri":"BETA/frontend/pipes/db","issuer":"BETA"}}' URL/db/pipes/frontend
  curl -X PATCH -H 'content-type: application/json' -d '{"this":{"data":{"USER":"ann"}}}' URL/db/pipes/frontend
  curl URL/frontend/pipes/db

One Open Service Broker in front of two: the catalog of both, an instance that takes two seconds, its credentials.
  curl -H 'X-Broker-API-Version: 2.17' URL/v2/catalog
  curl -X PUT -H 'X-Broker-API-Version: 2.17' -H 'content-type: application/json' \
       -d '{"service_id":"postgresql-service","plan_id":"postgresql-small","organization_guid":"o","space_guid":"s"}' \
       'URL/v2/service_instances/my-db?accepts_incomplete=true'
  curl -H 'X-Broker-API-Version: 2.17' URL/v2/service_instances/my-db/last_operation
  curl -X PUT -H 'X-Broker-API-Version: 2.17' -H 'content-type: application/json' \
       -d '{"service_id":"postgresql-service","plan_id":"postgresql-small"}' \
       URL/v2/service_instances/my-db/service_bindings/my-app
  curl 'URL/events?after=0'

Ctrl-C ends it.
"#;
