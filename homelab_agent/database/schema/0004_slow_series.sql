-- Series that come once a minute or more seldom, whatever is configured: their minutes would be as many as their samples.

CREATE TABLE slow_series (
    series  text PRIMARY KEY -- the fact table
);
COMMENT ON TABLE slow_series IS 'Series of which TimescaleDB makes no minutes: NAME_1m is made of the samples when asked for.';

-- As in 0003_rollups.sql, but what has been rolled up may be hours alone, without minutes.
CREATE OR REPLACE FUNCTION note_late() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    done timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('homelab.rollup.' || TG_TABLE_NAME, 0));
    SELECT max(until) INTO done FROM homelab.rollup WHERE series = TG_TABLE_NAME;
    IF done IS NOT NULL THEN
        INSERT INTO homelab.rollup_late
            SELECT TG_TABLE_NAME, min(time), max(time) FROM fresh WHERE time < done GROUP BY date_trunc('hour', time, 'UTC');
    END IF;
    RETURN NULL;
END
$$;
