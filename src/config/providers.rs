//! `[[provider]]`: where a provider is, how it is let in, how long it is waited for.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use standpipe_api::{CredentialAlias, Problems, ProviderId};
use toml::{Table, Value};

use super::load::Known;
use super::reader::Reader;
use super::{At, Breaker, Credential, CredentialBy, Provider, UpstreamTls};
use crate::forward::origin::Origin;
use crate::token::{DocumentPlace, DocumentSource, Take};

/// All providers of a configuration.
pub(super) fn read(top: &mut Reader<'_>, folder: &Path, known: &Known) -> Vec<Provider> {
    let mut providers: Vec<Provider> = Vec::new();
    for (at, table) in top.tables("provider").into_iter().enumerate() {
        let mut reader = top.inside(table, format!("provider[{at}]"));
        let provider = provider(&mut reader, folder, known);
        if providers.iter().any(|earlier| earlier.id == provider.id && !provider.id.as_str().is_empty()) {
            reader.wrong("name", format!("another provider is named `{}`", provider.id));
        }
        if provider.local
            && providers.iter().any(|earlier| earlier.local && earlier.dialect == provider.dialect)
        {
            reader.wrong("local", format!("another provider is the local one of {}", provider.dialect));
        }
        providers.push(provider);
    }
    providers
}

/// Reads the table of one provider that is registered at run time; relative paths are relative to `folder`. Beside what can
/// be read stands every mistake, with its key path within the table.
pub fn one(table: &Table, folder: &Path, known: &Known) -> (Provider, Problems) {
    let mut problems = Problems::new();
    let mut reader = Reader::new(table, "", &mut problems);
    let provider = provider(&mut reader, folder, known);
    if let At::InProcess { kind, .. } = &provider.at {
        reader.wrong(kind, "a provider served in this process stands in the configuration and needs a start");
    }
    (provider, problems)
}

fn provider(reader: &mut Reader<'_>, folder: &Path, known: &Known) -> Provider {
    let name = reader.required("name").unwrap_or_default();
    if !name.is_empty() && !is_name(&name) {
        reader.wrong("name", "must be lower-case letters, digits and hyphens, at most 63, beginning and ending without a hyphen");
    }
    let dialect = reader.required("dialect").unwrap_or_default();
    if !dialect.is_empty() && !known.dialects.contains(&dialect.as_str()) {
        reader.wrong("dialect", format!("`{dialect}` is unknown; known are {}", known.dialects.join(", ")));
    }
    let place = place(reader, known);
    let credentials_document = credentials_document(reader, folder, known);
    let credentials = credentials(reader, folder, known, credentials_document.is_some());
    let credential_by = credential_by(reader);
    let breaker = breaker(reader);
    let tls = tls(reader, folder);
    let mut span = |key, default| reader.span(key).unwrap_or(Duration::from_secs(default));
    let (connect_timeout, response_timeout, idle_timeout) =
        (span("connect_timeout", 5), span("response_timeout", 30), span("idle_timeout", 60));
    let queue_wait = span("queue_wait", 1);
    let concurrency = reader.count("concurrency").and_then(NonZeroU32::new);
    Provider {
        id: ProviderId::from(name),
        dialect,
        at: place,
        credentials,
        credential_by,
        credentials_document,
        credential_group: reader.text("credential_group"),
        local: reader.switch("local").unwrap_or(false),
        connect_timeout,
        response_timeout,
        idle_timeout,
        concurrency: concurrency.or(NonZeroU32::new(256)).unwrap_or(NonZeroU32::MIN),
        queue_wait,
        breaker,
        tls,
        dialect_settings: reader.rest(),
    }
}

/// Whether a text can stand as a name in paths, and in answers.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 63 && name.bytes().all(plain) && !name.starts_with('-') && !name.ends_with('-')
}

fn place(reader: &mut Reader<'_>, known: &Known) -> At {
    let tables: Vec<_> =
        known.upstreams.iter().filter_map(|kind| Some((*kind, reader.table(kind)?.clone()))).collect();
    let url = reader.text("url");
    match (url, tables.into_iter().next()) {
        (Some(_), Some((kind, _))) => {
            reader.wrong(kind, "a provider has a `url`, or is served in this process, not both");
            At::Url(String::new())
        }
        (None, Some((kind, table))) => At::InProcess { kind: kind.to_owned(), table },
        (Some(url), None) => {
            let url = url.trim_end_matches('/').to_owned();
            // A dialect's placeholder is whatever it stands for; any word makes a URL of it.
            if let Err(error) = Origin::parse(&url.replace(['{', '}'], "")) {
                reader.wrong("url", error.to_string());
            }
            At::Url(url)
        }
        (None, None) => {
            if reader.value("url").is_none() {
                reader.wrong(
                    "url",
                    format!(
                        "is missing; a provider in this process has a table [provider.{}] instead",
                        known.upstreams.join("] or [provider.")
                    ),
                );
            }
            At::Url(String::new())
        }
    }
}

fn credentials(reader: &mut Reader<'_>, folder: &Path, known: &Known, documented: bool) -> Vec<Credential> {
    let one = reader.table("credential").map(|table| vec![(table, reader.at("credential"))]);
    let several = reader.tables("credentials").into_iter().enumerate();
    let several: Vec<_> =
        several.map(|(nth, table)| (table, reader.at(&format!("credentials[{nth}]")))).collect();
    if one.is_some() && !several.is_empty() {
        reader.wrong("credentials", "choose one of `credential` and `credentials`");
    }
    let tables = one.unwrap_or(several);
    if tables.is_empty() && !documented {
        let (tenants, groups) = (Vec::new(), Vec::new());
        return vec![Credential {
            alias: "default".into(),
            kind: "none".into(),
            tenants,
            groups,
            table: Table::new(),
        }];
    }
    let mut credentials: Vec<Credential> = Vec::new();
    for (table, path) in tables {
        let mut inside = reader.inside(table, path);
        let kind = inside.required("kind").unwrap_or_default();
        if !kind.is_empty() && !known.credentials.contains(&kind.as_str()) {
            inside.wrong("kind", format!("`{kind}` is unknown; known are {}", known.credentials.join(", ")));
        }
        let alias = CredentialAlias::from(inside.text("alias").unwrap_or_else(|| "default".into()));
        if credentials.iter().any(|earlier| earlier.alias == alias) {
            inside.wrong("alias", format!("another credential of this provider is named `{alias}`"));
        }
        let (tenants, groups) =
            (inside.texts("tenants").unwrap_or_default(), inside.texts("groups").unwrap_or_default());
        let table = inside.rest().into_iter().map(|(key, value)| (key, absolute(value, folder))).collect();
        credentials.push(Credential { alias, kind, tenants, groups, table });
    }
    credentials
}

fn credential_by(reader: &mut Reader<'_>) -> CredentialBy {
    let Some(table) = reader.table("credential_by") else { return CredentialBy::default() };
    let path = reader.at("credential_by");
    let mut inside = reader.inside(table, path);
    let header = inside.parsed("header", |text| {
        let name: Result<http::HeaderName, _> = text.parse();
        name.map(|name| name.as_str().to_owned()).map_err(|_| format!("`{text}` is no name of a field"))
    });
    let query = inside.text("query");
    let body = inside.parsed("body", |text| {
        let names: Vec<String> = text.split('.').map(str::to_owned).collect();
        let good = names.iter().all(|name| !name.is_empty());
        if good { Ok(names) } else { Err("must be names of members, as \"parameters.apikey\"".into()) }
    });
    let forwarded = inside.switch("forwarded").unwrap_or(false);
    inside.finish();
    CredentialBy { header, query, body, forwarded }
}

fn credentials_document(reader: &mut Reader<'_>, folder: &Path, known: &Known) -> Option<DocumentSource> {
    let table = reader.table("credentials_document")?;
    let path = reader.at("credentials_document");
    let mut inside = reader.inside(table, path);
    let usual = || vec!["env:BROKER_APIKEYS".to_owned(), "vcap".to_owned()];
    let mut from = Vec::new();
    for text in inside.texts("from").unwrap_or_else(usual) {
        match DocumentPlace::parse(&text, folder) {
            Ok(source) => from.push(source),
            Err(why) => inside.wrong("from", format!("`{text}`: {why}")),
        }
    }
    let kind = inside.text("kind").unwrap_or_else(|| "digest".into());
    if !known.credentials.contains(&kind.as_str()) {
        inside.wrong("kind", format!("`{kind}` is unknown; known are {}", known.credentials.join(", ")));
    }
    let take = inside.parsed("take", |text| match text {
        "keys" => Ok(Take::Keys),
        "login" => Ok(Take::Login),
        _ => Err("must be \"keys\" or \"login\"".into()),
    });
    inside.finish();
    Some(DocumentSource { from, kind, take: take.unwrap_or(Take::Keys) })
}

/// `file:` references are relative to the configuration file's folder.
fn absolute(value: Value, folder: &Path) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("file:") {
            Some(path) => Value::String(format!("file:{}", folder.join(path).display())),
            None => Value::String(text),
        },
        other => other,
    }
}

fn breaker(reader: &mut Reader<'_>) -> Breaker {
    let empty = Table::new();
    let table = reader.table("breaker").unwrap_or(&empty);
    let path = reader.at("breaker");
    let mut inside = reader.inside(table, path);
    let failures = inside.count("failures").and_then(NonZeroU32::new);
    let open = inside.span("open").unwrap_or(Duration::from_secs(10));
    inside.finish();
    Breaker { failures: failures.or(NonZeroU32::new(5)).unwrap_or(NonZeroU32::MIN), open }
}

/// The table `tls` of a provider or peer.
pub(super) fn tls(reader: &mut Reader<'_>, folder: &Path) -> Option<UpstreamTls> {
    let table = reader.table("tls")?;
    let path = reader.at("tls");
    let mut inside = reader.inside(table, path);
    let roots = inside.text("roots").map(|path| folder.join(path));
    let certificate = inside.text("certificate").map(|path| folder.join(path));
    let key = inside.text("key").map(|path| folder.join(path));
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            inside.wrong("key", "is required with `certificate`");
            None
        }
        (None, Some(_)) => {
            inside.wrong("certificate", "is required with `key`");
            None
        }
    };
    inside.finish();
    Some(UpstreamTls { roots, client })
}
