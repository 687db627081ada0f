//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{Explained, addons, audit, mappings, outbox, peers, pipes, providers, usage, vault};

/// One endpoint in front of many providers' brokers.
#[derive(Debug, Parser)]
#[command(
    name = "standpipe",
    version,
    max_term_width = 100,
    after_help = "Try it: standpipe demo\nServe:  standpipe serve --config standpipe.toml"
)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve in front of the configured providers until SIGTERM; SIGHUP reloads
    Serve {
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Start four brokers and a standpipe in front of them, and print what to try
    Demo {
        /// Keep the data here; a temporary folder when absent
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// The port of the one endpoint on 127.0.0.1; 0 takes a free one
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Serve the configuration's one built-in broker alone
    #[command(after_help = "Example: standpipe broker --config config/broker-alpha.toml")]
    Broker {
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Serve the configuration's one Open Service Broker alone: declared services and plans, with hooks
    #[command(after_help = "Example: standpipe osb-broker --config config/osb-broker.toml")]
    OsbBroker {
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Print every mistake of a configuration with its key path; exit 1 if there is one. With --as, explain its access rules
    #[command(after_help = "Example: standpipe check --as basic:ann DELETE /db/pipes/web")]
    Check {
        /// Whose access is explained
        #[command(flatten)]
        explained: Box<Explained>,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Ask for a password unseen, or read it from a pipe, and print its hash for a caller
    #[command(after_help = "Example: printf %s \"$PASSWORD\" | standpipe hash-password")]
    HashPassword,
    /// Add services to an app, change and remove them
    #[command(
        after_help = "Example: standpipe addons add mysql --plan free --app myapp --channel development"
    )]
    Addons {
        /// What to do
        #[command(subcommand)]
        command: addons::Command,
        /// Where, and for which app
        #[command(flatten)]
        flags: addons::Flags,
    },
    /// Act on the pipes of a built-in broker
    #[command(after_help = "Example: standpipe pipes rotate db --config config/broker-alpha.toml")]
    Pipes {
        /// What to do with them
        #[command(subcommand)]
        command: pipes::Command,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Register, change, drain and remove providers while standpipe runs
    #[command(
        after_help = "Example: standpipe providers add alpha --dialect cloudpipe --url http://127.0.0.1:9001"
    )]
    Providers {
        /// What to do with them
        #[command(subcommand)]
        command: providers::Command,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show and remove the tokens of providers that callers' tokens became
    #[command(after_help = "Example: standpipe tokens purge --provider alpha")]
    Tokens {
        /// What to do with them
        #[command(subcommand)]
        command: vault::Tokens,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Change the key that seals secrets at rest
    #[command(after_help = "Example: standpipe keys rotate")]
    Keys {
        /// What to do
        #[command(subcommand)]
        command: vault::Keys,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show who changed what, and what access rules refused
    #[command(after_help = "Example: standpipe audit list --caller basic:ann")]
    Audit {
        /// What to do with it
        #[command(subcommand)]
        command: audit::Command,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Add up how long service instances lived and what their plans cost, from the events that are kept
    #[command(
        after_help = "What is done through /providers/{name}/ is no event: what is created there is not counted, and what is deleted there is counted on.\nExample: standpipe usage --by team --from 2026-01-01T00:00:00Z --format csv"
    )]
    Usage {
        /// What is added up
        #[command(flatten)]
        asked: usage::Asked,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show and change where resources live
    Mappings {
        /// What to do with them
        #[command(subcommand)]
        command: Box<mappings::Command>,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show what standpipes told each other, and take it back
    #[command(after_help = "Example: standpipe peers revoke west --kind pipe")]
    Peers {
        /// What to do
        #[command(subcommand)]
        command: peers::Command,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Show what is still to be done, such as news for other brokers, and try it again or drop it
    Outbox {
        /// What to do
        #[command(subcommand)]
        command: outbox::Command,
        /// Where the configuration is
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// The configuration file.
#[derive(Args, Clone, Debug)]
pub struct ConfigFile {
    /// The configuration file; standpipe.toml in the working folder when there is one
    #[arg(long, global = true, env = "STANDPIPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named, or the usual one if it is there.
    pub fn path(&self) -> Option<PathBuf> {
        let usual = PathBuf::from("standpipe.toml");
        self.config.clone().or_else(|| usual.exists().then_some(usual))
    }
}
