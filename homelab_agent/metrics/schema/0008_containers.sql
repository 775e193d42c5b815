-- Docker's containers, by what Compose calls them (project/service/number), else by name: one that is made anew is the same.

CREATE TABLE container_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    cpu_s                   double precision, -- counters are the control group's, which a restart makes anew
    throttled_s             double precision, -- for how long its CPU limit held it up
    memory_bytes            bigint, -- without files that were not read lately
    memory_limit_bytes      bigint, -- null: none
    swap_bytes              bigint,
    oom_kills               bigint,
    read_bytes              bigint, -- from disks, as written_bytes; not through caches
    written_bytes           bigint,
    reads                   bigint,
    writes                  bigint,
    restarts                bigint, -- how often it was seen to have begun anew since the agent began to look
    cpu_pct                 real, -- of one core
    memory_pct              real, -- of its limit
    read_bytes_per_s        real,
    written_bytes_per_s     real,
    restarted               integer, -- 1: it has begun anew since the sample before; null where that is not known
    reset                   boolean, -- it has begun anew: no rate is known
    container_id            text,
    image                   text,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('container_sample', 'entity_id');
COMMENT ON TABLE container_sample IS 'What Docker''s containers use.';
CREATE VIEW container AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM container_sample AS sample JOIN entity ON entity.id = sample.entity_id;
