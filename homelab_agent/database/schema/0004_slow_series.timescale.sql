-- Series that come once a minute or more seldom, whatever is configured: their minutes would be as many as their samples.

CREATE TABLE slow_series (
    series  text PRIMARY KEY -- the fact table
);
COMMENT ON TABLE slow_series IS 'Series of which TimescaleDB makes no minutes: NAME_1m is made of the samples when asked for.';
