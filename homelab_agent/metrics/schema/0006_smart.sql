-- How disks say that they are, while they are awake (metrics/disk_health.py).

CREATE TABLE smart_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    asleep                  boolean, -- it was left so: all else is null then
    passed                  boolean, -- the disk's own verdict
    warnings                integer, -- NVMe: Critical Warning, a bit for each
    celsius                 real,
    powered_s               bigint, -- for how long it was on, in all
    power_cycles            bigint,
    wear_pct                real, -- 100: what it was made for is used up
    spare_pct               real, -- NVMe: what is left
    read_bytes              bigint,
    written_bytes           bigint,
    reallocated             bigint, -- sectors
    pending                 bigint, -- sectors that cannot be read
    uncorrectable           bigint,
    crc_errors              bigint, -- on the cable
    model                   text,
    device                  text, -- what the kernel calls it today
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('smart_sample', 'entity_id');
COMMENT ON TABLE smart_sample IS 'What each disk says of its own health (SMART).';
CREATE VIEW smart AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM smart_sample AS sample JOIN entity ON entity.id = sample.entity_id;
