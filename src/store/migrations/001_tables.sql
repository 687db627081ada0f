-- Where resources live. The key is (kind, parent, id, scope); '' stands for "no parent" and "shared scope".
CREATE TABLE resource_mapping (
    kind         TEXT    NOT NULL,
    parent       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    scope        TEXT    NOT NULL,
    provider     TEXT    NOT NULL,
    endpoint     TEXT,
    remote_scope TEXT,
    credential   TEXT,
    owner        TEXT,
    hints        TEXT,              -- JSON: [["kind", "value"], ...]; NULL for none
    state        TEXT    NOT NULL CHECK (state IN ('intent', 'maybe', 'live', 'deleting', 'gone')),
    origin       TEXT    NOT NULL CHECK (origin IN ('created', 'learned', 'listed', 'injected', 'imported')),
    created_at   INTEGER NOT NULL,  -- this and all times: milliseconds since 1970
    updated_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    PRIMARY KEY (kind, parent, id, scope)
) STRICT, WITHOUT ROWID;

-- Lookups that do not know the parent.
CREATE INDEX resource_mapping_by_id ON resource_mapping (kind, id);
-- Lists of one provider, in key order.
CREATE INDEX resource_mapping_by_provider ON resource_mapping (provider);
-- Purging, and the claims a crash left: both must not read the table.
CREATE INDEX resource_mapping_ending ON resource_mapping (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX resource_mapping_intent ON resource_mapping (state) WHERE state = 'intent';

-- Sealed records of extensions.
CREATE TABLE record (
    namespace TEXT    NOT NULL,
    key       TEXT    NOT NULL,
    revision  INTEGER NOT NULL,
    value     BLOB    NOT NULL,     -- sealed
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;

-- Durable jobs of extensions.
CREATE TABLE job (
    namespace TEXT    NOT NULL,
    id        TEXT    NOT NULL,
    generation INTEGER NOT NULL,    -- changes with every scheduling
    payload   BLOB    NOT NULL,     -- sealed
    due_at    INTEGER NOT NULL,
    attempts  INTEGER NOT NULL,
    state     TEXT    NOT NULL CHECK (state IN ('waiting', 'needs credentials', 'failed')),
    reason    TEXT,
    PRIMARY KEY (namespace, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_due ON job (due_at) WHERE state = 'waiting';

-- Small secrets of the process, such as the key of keyed hashes.
CREATE TABLE process_secret (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL             -- sealed
) STRICT, WITHOUT ROWID;

-- One row. `revisions` counts every write of a record or job, so that no revision is given twice;
-- `probed_at` is written by health checks; `key_check` opens only under the right master key.
CREATE TABLE standpipe (
    one       INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revisions INTEGER NOT NULL,
    probed_at INTEGER NOT NULL,
    key_check BLOB    NOT NULL      -- sealed
) STRICT;
