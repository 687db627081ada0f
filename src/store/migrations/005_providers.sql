-- What was said of providers at run time. `registration` is the provider's table and its secrets; NULL for a configured
-- one, of which only the availability is kept. The place is the order of registration.
CREATE TABLE provider (
    place        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name         TEXT    NOT NULL UNIQUE,
    registration BLOB,              -- sealed
    availability TEXT    NOT NULL CHECK (availability IN ('active', 'draining'))
) STRICT;
