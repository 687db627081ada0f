//! What extensions tell an operator about providers: a stale catalog, an offering that is hidden.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use standpipe_api::{ProviderId, Timestamp};

/// The notes that stand now, by provider and word.
#[derive(Debug, Default)]
pub struct Notes(Mutex<BTreeMap<(ProviderId, &'static str), Note>>);

/// Something an operator should know of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What kind of note; one of few.
    pub word: &'static str,
    /// Since when it stands.
    pub since: Timestamp,
    /// What is the matter.
    pub text: String,
}

impl Notes {
    /// Sets a note, or takes it away. One that stands already keeps its time, unless it is known better.
    pub fn set(
        &self,
        provider: &ProviderId,
        word: &'static str,
        text: Option<&str>,
        since: Option<Timestamp>,
    ) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (provider.clone(), word);
        match text {
            None => drop(notes.remove(&key)),
            Some(text) => {
                let since = since.or_else(|| notes.get(&key).map(|note| note.since));
                let since = since.unwrap_or_else(Timestamp::now);
                notes.insert(key, Note { word, since, text: text.to_owned() });
            }
        }
    }

    /// The notes on one provider.
    pub fn on(&self, provider: &ProviderId) -> Vec<Note> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().filter(|((of, _), _)| of == provider).map(|(_, note)| note.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_keeps_its_time_until_it_is_taken_away() {
        let (notes, alpha) = (Notes::default(), ProviderId::from("alpha"));
        notes.set(&alpha, "catalog-stale", Some("down"), None);
        let since = notes.on(&alpha)[0].since;
        notes.set(&alpha, "catalog-stale", Some("still down"), None);
        assert_eq!((notes.on(&alpha)[0].since, notes.on(&alpha)[0].text.as_str()), (since, "still down"));
        assert!(notes.on(&"beta".into()).is_empty());
        notes.set(&alpha, "catalog-stale", Some("down"), Some(Timestamp::from_millis(1)));
        assert_eq!(notes.on(&alpha)[0].since, Timestamp::from_millis(1), "whoever knows better is believed");
        notes.set(&alpha, "catalog-stale", None, None);
        assert!(notes.on(&alpha).is_empty());
    }
}
