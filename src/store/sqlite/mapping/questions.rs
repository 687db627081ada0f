//! Which plan each question to the table follows.

use standpipe_api::{Kind, Resource};

use super::super::provider;
use super::{FIND, HAS, NAMED, SET_STATE, given, purge, scan_statement};
use crate::store::Filter;

/// The statements whose cost must not grow with the table, each with the words of a plan that keeps that promise.
pub(in crate::store::sqlite) fn questions() -> Vec<(String, &'static str)> {
    let resource = Resource::new(Kind::of("pipe"), "p").within("db");
    let at = |filter: Filter, plan| (scan_statement(&filter, Some(&resource)), plan);
    let (provider, kind, parent) = (Some("alpha".into()), Some(Kind::of("pipe")), Some("db".into()));
    vec![
        (FIND.into(), "USING PRIMARY KEY (kind=? AND parent=? AND id=? AND scope=?)"),
        (NAMED.into(), "USING INDEX resource_mapping_by_id (kind=? AND id=?)"),
        (SET_STATE.into(), "USING PRIMARY KEY (kind=? AND parent=? AND id=? AND scope=?)"),
        (HAS.into(), "USING INDEX resource_mapping_by_creator (<expr>=? AND kind=?)"),
        (purge::EXPIRED.into(), "USING COVERING INDEX resource_mapping_ending (expires_at<?)"),
        (purge::TOMBSTONES.into(), "USING COVERING INDEX resource_mapping_gone (kind=? AND updated_at<?)"),
        at(Filter::default(), "USING PRIMARY KEY ((kind,parent,id,scope)>(?,?,?,?))"),
        at(Filter { provider, ..Filter::default() }, "resource_mapping_by_provider (provider=? AND (kind"),
        at(Filter { kind, parent, ..Filter::default() }, "USING PRIMARY KEY (kind=? AND parent=?"),
        at(
            Filter { peer: Some("west".into()), ..Filter::default() },
            "resource_mapping_by_peer (peer=? AND (kind",
        ),
        (provider::COUNT.into(), "resource_mapping_by_provider (provider=?"),
        (provider::HELD.into(), "resource_mapping_by_provider (provider=?"),
        (given::COUNT.into(), "resource_mapping_by_peer (peer=?"),
        (given::REVOKE.into(), "resource_mapping_by_peer (peer=?"),
        (
            "UPDATE resource_mapping SET state = 'maybe' WHERE state = 'intent'".into(),
            "resource_mapping_intent",
        ),
    ]
}
