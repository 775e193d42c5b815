-- Families of collectors that are asked each slow_interval, which is a minute unless somebody changes it, or more seldom.
INSERT INTO slow_series (series) VALUES
    ('filesystem_sample'), ('temperature_sample'), ('fan_sample'), ('frequency_sample'), ('throttling_sample'),
    ('raid_sample'), ('unit_sample'), ('container_sample'), ('smart_sample'), ('probe_sample'), ('forecast_sample');

-- "ok" thirteen times, with its brackets, was a third of a tick.
COMMENT ON COLUMN tick.collectors IS
    '{"cpu": 0.2, "disk": ["timeout", 2000]}: milliseconds, with the status where it is not ok. Older rows: ["ok", 0.2].';
