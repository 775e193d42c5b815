-- In how many days each filesystem is full (metrics/space.py); a row an hour.

CREATE TABLE forecast_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    full_in_d               double precision, -- null: not within ten years, as it goes now
    growth_bytes_per_d      bigint, -- negative where it empties
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('forecast_sample', 'entity_id');
COMMENT ON TABLE forecast_sample IS 'In how many days each filesystem is full, as its last four weeks went.';
CREATE VIEW forecast AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM forecast_sample AS sample JOIN entity ON entity.id = sample.entity_id;
