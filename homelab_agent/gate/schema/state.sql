-- What the gate keeps in state.db (intent.py, ledger.py). Times are microseconds since 1970 in UTC.

-- The operator's word: the door stays shut until it passes or is released.
CREATE TABLE IF NOT EXISTS gate_hold (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    who   TEXT    NOT NULL,
    why   TEXT    NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER -- NULL: until it is released
) STRICT;

-- Earlier state that was lost, for which the door was held once; another loss takes this table along.
CREATE TABLE IF NOT EXISTS gate_loss (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    held_at INTEGER NOT NULL
) STRICT;

-- Each opening to the internet, from before the door opens; the order is that of rowid.
CREATE TABLE IF NOT EXISTS gate_exposure (
    id         TEXT PRIMARY KEY,
    opened_at  INTEGER NOT NULL,
    opened_why TEXT    NOT NULL,
    seen_at    INTEGER NOT NULL, -- when it was last known to be open
    closed_at  INTEGER,          -- NULL while it is open
    closed_why TEXT    NOT NULL DEFAULT '',
    checks     TEXT    NOT NULL DEFAULT '', -- those that decided it
    seconds    REAL    NOT NULL DEFAULT 0,  -- by a clock that nobody sets
    requests   INTEGER NOT NULL DEFAULT 0,
    sources    INTEGER NOT NULL DEFAULT 0, -- 10,000 are at least so many
    sent_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS gate_exposure_open ON gate_exposure (closed_at) WHERE closed_at IS NULL;
