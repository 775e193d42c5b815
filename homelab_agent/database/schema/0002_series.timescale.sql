-- A series is a fact table that grows with `time` for ever, and is cut up by it: here into the chunks of a hypertable.

-- Make a series of the empty table `fact`; `segment` is the column that tells its lines apart.
-- Chunks hold about a week of what is sampled once a minute, two days of what is sampled every ten seconds; they are
-- compressed later than the spool may hold a sample back, so that replay never meets a compressed one.
CREATE FUNCTION make_series(fact regclass, segment text) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM create_hypertable(fact, by_range('time', INTERVAL '2 days'), create_default_indexes => false);
    EXECUTE format('ALTER TABLE %s SET (timescaledb.compress, timescaledb.compress_segmentby = %L,'
                   ' timescaledb.compress_orderby = ''time DESC'')', fact, segment);
    PERFORM add_compression_policy(fact, INTERVAL '8 days');
END
$$;
