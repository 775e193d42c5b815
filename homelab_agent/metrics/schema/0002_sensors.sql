-- Families that few hosts have all of: fans, the cores' frequency, a Raspberry Pi's firmware, arrays of disks.

CREATE TABLE fan_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    rpm                     real,
    low_rpm                 real, -- below this the chip calls it a fault
    device                  text,
    input                   text,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('fan_sample', 'entity_id');
COMMENT ON TABLE fan_sample IS 'How fast fans turn, in revolutions a minute.';
CREATE VIEW fan AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM fan_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE frequency_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    hertz                   bigint,
    minimum_hertz           bigint,
    maximum_hertz           bigint,
    throttles               bigint, -- how often heat has slowed this core
    package_throttles       bigint, -- and all cores that share its case
    throttles_per_s         real,
    reset                   boolean, -- a counter fell: no rate is known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('frequency_sample', 'entity_id');
COMMENT ON TABLE frequency_sample IS 'How fast each core runs, and how often heat has slowed it.';
CREATE VIEW frequency AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM frequency_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE throttling_sample (
    entity_id                   bigint NOT NULL,
    time                        timestamptz NOT NULL,
    under_voltage               boolean,
    under_voltage_since_boot    boolean,
    capped                      boolean,
    capped_since_boot           boolean,
    throttled                   boolean,
    throttled_since_boot        boolean,
    too_warm                    boolean,
    too_warm_since_boot         boolean,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('throttling_sample', 'entity_id');
COMMENT ON TABLE throttling_sample IS 'Why a Raspberry Pi''s firmware slows it down: its power supply, or heat.';
CREATE VIEW throttling AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM throttling_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE raid_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    device                  text, -- what the kernel calls it today
    level                   text,
    state                   text,
    action                  text, -- idle, check, resync, recover, ...
    disks                   integer, -- how many it should have
    missing                 integer,
    failed                  integer,
    spares                  integer,
    mismatches              bigint, -- sectors that the last check found to differ
    synced_pct              real, -- of the action under way
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('raid_sample', 'entity_id');
COMMENT ON TABLE raid_sample IS 'Arrays of disks that the kernel keeps (md).';
CREATE VIEW raid AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM raid_sample AS sample JOIN entity ON entity.id = sample.entity_id;
