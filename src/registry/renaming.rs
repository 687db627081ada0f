//! Keys of a provider's table that callers' ids are made of: while something lives there they stay, unless it is forced.

use standpipe_api::{Dialect, ProviderId};
use toml::{Table, Value};

use crate::store::{Held, Store, StoreError};

/// What a change may do to the ids by which callers know what a provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// They stay, where something lives there.
    Refused,
    /// They may become others.
    Forced,
}

/// Why a key stays as it is; `None`: no id changes, or nobody knows one. `before` and `after` hold the dialect's own keys.
///
/// # Errors
/// The store does not answer.
pub(super) async fn refusal(
    store: &dyn Store,
    dialect: &dyn Dialect,
    name: &ProviderId,
    (before, after): (&Table, &Table),
) -> Result<Option<(&'static str, String)>, StoreError> {
    let said = |table: &Table, key: &str| table.get(key).filter(|value| value.as_str() != Some("")).cloned();
    let differs = |key: &&&'static str| -> bool {
        let [before, after]: [Option<Value>; 2] = [said(before, key), said(after, key)];
        before != after
    };
    let Some(key) = dialect.keys_in_ids().iter().find(differs) else { return Ok(None) };
    let Held { count, some } = store.held(name).await?;
    let some: Vec<String> = some.iter().map(ToString::to_string).collect();
    let text = format!(
        "cannot change: {name} still has {count} resources, such as {}, and callers know them by ids that this key is part of",
        some.join(", ")
    );
    Ok((count > 0).then_some((*key, text)))
}
