-- Up to when sample times were given out (instants.py); one row.
CREATE TABLE IF NOT EXISTS metrics_high_water (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    used INTEGER NOT NULL,
    high INTEGER NOT NULL,
    laps INTEGER NOT NULL,
    boot TEXT NOT NULL,
    clock_offset REAL NOT NULL
);
