//! The keys of credentials that come from a token endpoint.

use standpipe_api::{Problem, Problems, Result, Settings};

/// The keys of the strategies that ask a token endpoint.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) token_url: String,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) scope: Option<String>,
    #[serde(default)]
    pub(super) audience: Several,
    #[serde(default)]
    pub(super) resource: Several,
    pub(super) timeout: Option<String>,
    pub(super) lifetime: Option<String>,
    pub(super) requested_token_type: Option<String>,
    pub(super) subject_token_type: Option<String>,
    pub(super) actor_token: Option<String>,
    pub(super) actor_token_type: Option<String>,
}

impl Keys {
    /// Reads a credential's table.
    pub(super) fn read(table: &toml::Table) -> Result<Self, Problems> {
        Settings::read(table)
    }

    /// Reads the table of a strategy that exchanges nothing.
    pub(super) fn read_plain(table: &toml::Table) -> Result<Self, Problems> {
        let keys = Self::read(table)?;
        let exchanging = [
            ("requested_token_type", &keys.requested_token_type),
            ("subject_token_type", &keys.subject_token_type),
            ("actor_token", &keys.actor_token),
            ("actor_token_type", &keys.actor_token_type),
        ];
        let wrong = exchanging.into_iter().filter(|(_, value)| value.is_some());
        let problems: Problems = wrong.map(|(key, _)| Problem::at(key, "is for kind `exchange`")).collect();
        if problems.is_empty() { Ok(keys) } else { Err(problems) }
    }
}

/// One text or a list of them.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Several {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl Several {
    pub(super) fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Self::None => [].iter(),
            Self::One(one) => std::slice::from_ref(one).iter(),
            Self::Many(many) => many.iter(),
        }
    }
}

/// How the client says who it is (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClientAuth {
    /// In `Authorization`.
    Basic,
    /// In the form.
    Post,
}
