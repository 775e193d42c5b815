-- Rollups: what each series came to by minute, hour and day, which is kept longer than its rows. Their tables and views
-- are made for every series there is when an agent starts (database/rollups/), and need no migration of their own.

CREATE TABLE rollup (
    series  text NOT NULL, -- the fact table
    level   text NOT NULL, -- 1m, 1h, 1d
    until   timestamptz, -- what is before it has been rolled up
    settled timestamptz, -- what was before it is gone from where this level is rolled up from, so it is never done again
    PRIMARY KEY (series, level)
);
COMMENT ON TABLE rollup IS 'How far each series has been rolled up, by level.';

CREATE TABLE rollup_late (
    series  text NOT NULL,
    from_at timestamptz NOT NULL,
    to_at   timestamptz NOT NULL -- the last such row; within the hour of from_at
);
COMMENT ON TABLE rollup_late IS 'Times of rows that came when theirs had been rolled up: to be done again.';

-- Note the rows of a statement that came too late. Who rolls up holds the lock alone, and an insert holds it with others:
-- so either he reads these rows, or they are noted here against the time up to which he had come.
CREATE FUNCTION note_late() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    done timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('homelab.rollup.' || TG_TABLE_NAME, 0));
    SELECT until INTO done FROM homelab.rollup WHERE series = TG_TABLE_NAME AND level = '1m';
    IF done IS NOT NULL THEN
        INSERT INTO homelab.rollup_late
            SELECT TG_TABLE_NAME, min(time), max(time) FROM fresh WHERE time < done GROUP BY date_trunc('hour', time, 'UTC');
    END IF;
    RETURN NULL;
END
$$;
