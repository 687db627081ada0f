//! `standpipe addons`: services for an app, added, changed and removed at a standpipe's `/addons`.
//!
//! In front of a service broker that no standpipe stands in front of, the command starts one of its own (`own`): what there is
//! to know of add-ons is known in one place, the extension.

mod act;
mod browser;
mod client;
mod doing;
mod environment;
mod own;
mod place;
mod print;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser as Named;
use clap::{Args, Subcommand};

use self::act::Session;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what can be added, with its plans
    List {
        /// List what is added to the app instead
        #[arg(long)]
        added: bool,
    },
    /// Add a service to the app: provision it and bind it. Run again, it goes on where it was
    #[command(after_help = "Example: standpipe addons add mysql --plan free --env-file .env")]
    Add {
        /// The service, as `list` names it
        #[arg(value_parser = Named::new())]
        name: String,
        /// Its plan; not needed where it has one only
        #[arg(long, value_parser = Named::new())]
        plan: Option<String>,
        /// Parameters for its broker, as a JSON object
        #[arg(long, value_name = "JSON")]
        parameters: Option<String>,
        /// How long to wait
        #[command(flatten)]
        waiting: Waiting,
        /// Where its credentials go
        #[command(flatten)]
        environment: Environment,
    },
    /// Move an add-on to another plan, or give it other parameters
    Update {
        /// The add-on
        #[arg(value_parser = Named::new())]
        name: String,
        /// The new plan
        #[arg(long, value_parser = Named::new(), required_unless_present = "parameters")]
        plan: Option<String>,
        /// New parameters for its broker, as a JSON object
        #[arg(long, value_name = "JSON")]
        parameters: Option<String>,
        /// How long to wait
        #[command(flatten)]
        waiting: Waiting,
        /// Where its credentials go, which may be others now
        #[command(flatten)]
        environment: Environment,
    },
    /// Remove an add-on and its data: unbind it and deprovision it
    Remove {
        /// The add-on
        #[arg(value_parser = Named::new())]
        name: String,
        /// How long to wait
        #[command(flatten)]
        waiting: Waiting,
        /// The file its credentials were written to; they are taken out again
        #[arg(long, value_name = "FILE", env = "STANDPIPE_ENV_FILE")]
        env_file: Option<PathBuf>,
    },
    /// Open the page on which an add-on is managed
    Dashboard {
        /// The add-on
        #[arg(value_parser = Named::new())]
        name: String,
        /// Print its address instead
        #[arg(long)]
        no_browser: bool,
    },
    /// Open the documentation of a service
    Docs {
        /// The service
        #[arg(value_parser = Named::new())]
        name: String,
        /// A plan of it
        #[arg(long, value_parser = Named::new())]
        plan: Option<String>,
        /// Print its address instead
        #[arg(long)]
        no_browser: bool,
    },
}

/// Where, and for which app.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// The standpipe; else `url` in .standpipe.toml, else http://127.0.0.1:8080. STANDPIPE_USER and STANDPIPE_PASSWORD, or
    /// STANDPIPE_TOKEN, say who is asking
    #[arg(long, global = true, env = "STANDPIPE_URL")]
    url: Option<String>,
    /// Any Open Service Broker instead, with no standpipe in front of it; else `osb_url` in .standpipe.toml. The same variables
    /// say who is asking. What is added is kept in .standpipe/ beside that file, else of this folder; an operation that takes
    /// its time goes on with the next command
    #[arg(long, global = true, env = "STANDPIPE_OSB_URL")]
    osb_url: Option<String>,
    /// Send a password or token over http:// to another machine, where others may read it
    #[arg(long, global = true)]
    unencrypted: bool,
    /// The app; else `app` in .standpipe.toml of this folder or the nearest above it
    #[arg(long, global = true, env = "STANDPIPE_APP")]
    app: Option<String>,
    /// The app's channel, as development; else `channel` in .standpipe.toml
    #[arg(long, global = true, env = "STANDPIPE_CHANNEL")]
    channel: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// Whether and how long to wait for brokers that take their time.
#[derive(Args, Clone, Debug)]
pub struct Waiting {
    /// Wait until it is done, which is the default
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Do not wait: it is done behind your back
    #[arg(long)]
    no_wait: bool,
    /// Wait at most this long; it goes on behind your back
    #[arg(long, default_value = "30m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl Waiting {
    fn waits(&self) -> bool {
        self.wait || !self.no_wait
    }
}

/// Where credentials go, as SERVICE_KEY: `uri` of postgresql is POSTGRESQL_URL.
#[derive(Args, Clone, Debug)]
pub struct Environment {
    /// Write its credentials into this file, with mode 0600; other lines stay. Else `env_file` in .standpipe.toml
    #[arg(long, value_name = "FILE", env = "STANDPIPE_ENV_FILE")]
    env_file: Option<PathBuf>,
    /// Print its credentials, as in an env file: SERVICE_KEY, nested keys joined by _, uri as URL (POSTGRESQL_URL). With
    /// --json: as the broker gave them
    #[arg(long)]
    print_env: bool,
}

/// Carries out a command; the text of a failure says what to do.
pub(super) fn run(flags: &Flags, command: Command, out: &mut dyn Write) -> Result<ExitCode, String> {
    let mut session = Session::new(flags, out)?;
    let done = super::runtime()?.block_on(session.run(command));
    session.end();
    done.map(|()| ExitCode::SUCCESS)
}
