-- Rollups: what each series came to by minute, hour and day, which is kept longer than its rows. Their continuous
-- aggregates and views are made for every series there is when an agent starts (database/rollups/), and need no migration
-- of their own. TimescaleDB itself knows what came late.

CREATE TABLE rollup (
    series  text NOT NULL, -- the fact table
    level   text NOT NULL, -- 1m, 1h, 1d
    until   timestamptz, -- what is before it has been rolled up
    settled timestamptz, -- what was before it is gone from where this level is rolled up from, so it is never done again
    PRIMARY KEY (series, level)
);
COMMENT ON TABLE rollup IS 'How far each series has been rolled up, by level.';
