-- What core keeps in state.db beside the runs. Additive: a table or an index once here stays.

-- Parcels of rows on their way to PostgreSQL, in the order of id (core/spool/parcel.py says how body is written).
-- at and until: time of the oldest and the newest row, in microseconds since 1970; size: bytes of disk.
CREATE TABLE IF NOT EXISTS spool (
    id      INTEGER PRIMARY KEY,
    promise INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    rows    INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    body    BLOB    NOT NULL
) STRICT;

-- Rows that PostgreSQL refused, as JSON, and parcels that could not be read back, as they were; and why.
CREATE TABLE IF NOT EXISTS rejected (
    id          INTEGER PRIMARY KEY,
    rejected_at INTEGER NOT NULL,
    table_name  TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    content     ANY     NOT NULL
) STRICT;

-- The health check's own write, made only after another write has failed.
CREATE TABLE IF NOT EXISTS state_proof (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    proved_at TEXT    NOT NULL
) STRICT;
