-- The tenant of the caller that created a resource, and what counts towards its quota: a caller without a tenant
-- stands for itself.
ALTER TABLE resource_mapping ADD COLUMN tenant TEXT;
CREATE INDEX resource_mapping_by_creator ON resource_mapping (coalesce(tenant, owner), kind) WHERE owner IS NOT NULL;

-- Who changed what, and what access rules refused. Ids only grow, so that they can be read behind.
CREATE TABLE audit (
    id        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    call      TEXT    NOT NULL UNIQUE,  -- one event per call, also when writing it is tried again
    caller    TEXT,
    tenant    TEXT,
    method    TEXT    NOT NULL,
    path      TEXT    NOT NULL,         -- without query
    operation TEXT,
    kind      TEXT,
    provider  TEXT,
    status    INTEGER NOT NULL,
    fault     TEXT,
    refused   TEXT
) STRICT;
CREATE INDEX audit_by_caller ON audit (caller);
CREATE INDEX audit_by_provider ON audit (provider);
CREATE INDEX audit_by_time ON audit (at);
