-- Services that are asked whether they answer (metrics/probes.py): one row for all answers since the row before.

CREATE TABLE probe_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    up                      boolean, -- the last answer was good
    answer_s                double precision, -- how long that took; null when it was not
    status                  integer, -- of a page
    certificate_s           bigint, -- for how long its certificate is good; null when it has none
    asked                   integer, -- how often since the row before
    failed                  integer, -- how often of these in vain
    cause                   text, -- what is wrong; null when nothing is
    target                  text,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('probe_sample', 'entity_id');
COMMENT ON TABLE probe_sample IS 'Whether each service of one''s own answers.';
CREATE VIEW probe AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM probe_sample AS sample JOIN entity ON entity.id = sample.entity_id;
