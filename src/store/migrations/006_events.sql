-- The feed. Revisions only grow and none is given twice, also when all rows are gone; rows leave from the front only.
CREATE TABLE event (
    revision INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    subject  TEXT,              -- JSON: a resource
    provider TEXT,
    tenant   TEXT,
    owner    TEXT,
    payload  TEXT    NOT NULL   -- JSON; holds no secrets
) STRICT;
