-- What callers' tokens, or standpipe's own credentials, became at providers. `subject` is the keyed hash of a caller's
-- token, never the token; empty for what is standpipe's own. `remote_scope` is '' for none.
CREATE TABLE token_mapping (
    subject      BLOB    NOT NULL,
    provider     TEXT    NOT NULL,
    remote_scope TEXT    NOT NULL,
    credential   TEXT    NOT NULL,
    kind         TEXT    NOT NULL,  -- the credential's strategy
    settings     BLOB    NOT NULL,  -- hash of the settings it was obtained under; others do not use it
    value        BLOB    NOT NULL,  -- sealed
    obtained_at  INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (subject, provider, remote_scope, credential)
) STRICT, WITHOUT ROWID;

-- Purging must not read the table.
CREATE INDEX token_mapping_ending ON token_mapping (expires_at);
