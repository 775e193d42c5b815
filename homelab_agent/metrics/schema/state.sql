-- Up to when sample times were given out (instants.py); one row.
CREATE TABLE IF NOT EXISTS metrics_high_water (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    used INTEGER NOT NULL,
    high INTEGER NOT NULL,
    laps INTEGER NOT NULL,
    boot TEXT NOT NULL,
    clock_offset REAL NOT NULL
);
-- What this host was when it was looked at last (facts.py).
CREATE TABLE IF NOT EXISTS metrics_fact (
    name TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name, key)
);
