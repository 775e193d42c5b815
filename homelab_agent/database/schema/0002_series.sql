-- A series is a fact table that grows with `time` for ever, and is cut up by it: here into partitions by month, which are
-- made ahead and on demand (make_partition); on TimescaleDB, 0002_series.timescale.sql, into a hypertable's chunks.

-- Make a series of the empty table `fact`; `segment` is the column that tells its lines apart.
CREATE FUNCTION make_series(fact regclass, segment text) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    name text;
BEGIN
    SELECT relname INTO STRICT name FROM pg_class WHERE oid = fact;
    EXECUTE format('CREATE TEMPORARY TABLE series_model (LIKE %s INCLUDING ALL)', fact);
    EXECUTE format('DROP TABLE %s', fact);
    EXECUTE format('CREATE TABLE homelab.%I (LIKE series_model INCLUDING ALL) PARTITION BY RANGE (time)', name);
    DROP TABLE series_model;
END
$$;
