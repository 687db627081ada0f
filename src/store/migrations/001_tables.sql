-- Where resources live. `parent` and `scope` are '' where there is none.
CREATE TABLE resource_mapping (
    kind         TEXT NOT NULL,
    parent       TEXT NOT NULL,
    id           TEXT NOT NULL,
    scope        TEXT NOT NULL,
    provider     TEXT NOT NULL,
    endpoint     TEXT,
    remote_scope TEXT,
    credential   TEXT,
    owner        TEXT,
    hints        TEXT NOT NULL,
    state        TEXT NOT NULL,
    origin       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    PRIMARY KEY (kind, parent, id, scope)
) WITHOUT ROWID, STRICT;

CREATE INDEX resource_mapping_by_id ON resource_mapping (kind, id);
CREATE INDEX resource_mapping_by_provider ON resource_mapping (provider, kind);
CREATE INDEX resource_mapping_by_expiry ON resource_mapping (expires_at) WHERE expires_at IS NOT NULL;
-- At the start every open claim becomes `maybe`; there are few, and they must be found without reading the rest.
CREATE INDEX resource_mapping_open ON resource_mapping (state) WHERE state = 'intent';

-- Records of extensions; contents sealed.
CREATE TABLE record (
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    value     BLOB NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID, STRICT;

-- Work promised and not yet done; payloads sealed. A job without a due time waits for an operator or a caller.
CREATE TABLE job (
    namespace  TEXT NOT NULL,
    id         TEXT NOT NULL,
    generation INTEGER NOT NULL,
    payload    BLOB NOT NULL,
    due_at     INTEGER,
    attempts   INTEGER NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (namespace, id)
) WITHOUT ROWID, STRICT;

CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;

-- One row: something sealed under the master key, to recognise a wrong one before anything is written.
CREATE TABLE key_check (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    value BLOB NOT NULL
) STRICT;

-- The source of revisions and generations; never goes back, so that a removed and rewritten record is not mistaken for the old one.
CREATE TABLE revision (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO revision VALUES (1, 0);
