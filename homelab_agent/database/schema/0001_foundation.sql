-- What every room stands on. Connections have search_path = homelab, public and timezone = UTC.
CREATE SCHEMA IF NOT EXISTS homelab;

CREATE TABLE schema_migration (
    room       text        NOT NULL,
    number     integer     NOT NULL,
    name       text        NOT NULL,
    checksum   text        NOT NULL, -- SHA-256 of the file
    edition    text        NOT NULL, -- plain or timescale: which variants this database is made of
    release    text        NOT NULL, -- the agent that applied it
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (room, number)
);
COMMENT ON TABLE schema_migration IS 'Which files of which room''s schema/ have been applied.';

-- One thing that is measured: a host's disk, one network interface, one file system. The id is the first 63 bits of
-- BLAKE2b over host, family, key and label, so that rows need no look-up, replay or merge no translation.
CREATE TABLE entity (
    id     bigint PRIMARY KEY,
    host   text NOT NULL,
    family text NOT NULL, -- cpu, memory, disk, ...
    key    text NOT NULL, -- what stays when names change: a serial number, a UUID; empty for the host as a whole
    label  text NOT NULL  -- what a person calls it: eth0, /srv
);
CREATE INDEX entity_family_host ON entity (family, host);

CREATE TABLE job_run (
    id           uuid        PRIMARY KEY,
    host         text        NOT NULL,
    job          text        NOT NULL,
    trigger      text        NOT NULL, -- schedule, webhook, command, catch-up
    state        text        NOT NULL, -- ok, failed, cancelled, interrupted, timed_out
    detail       text        NOT NULL DEFAULT '',
    repair       text        NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz
);
CREATE INDEX job_run_job ON job_run (host, job, requested_at);

CREATE TABLE gap (
    host    text        NOT NULL,
    from_at timestamptz NOT NULL,
    to_at   timestamptz NOT NULL,
    cause   text        NOT NULL,
    rows    bigint      NOT NULL, -- how many are missing between the two times
    PRIMARY KEY (host, from_at, cause)
);
COMMENT ON TABLE gap IS 'Rows that were given up: between which times, how many, and why.';

-- Make the partition of `parent` that holds `at`, if it is missing: `cpu_sample_y2026m11` for November 2026 in UTC.
CREATE FUNCTION make_partition(parent regclass, at timestamptz) RETURNS text
    LANGUAGE plpgsql
    SET timezone TO 'UTC'
AS $$
DECLARE
    first timestamptz := date_trunc('month', at);
    space text;
    leaf  text;
BEGIN
    SELECT nspname, relname || to_char(first, '"_y"YYYY"m"MM') INTO STRICT space, leaf
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_class.oid = parent;
    IF to_regclass(format('%I.%I', space, leaf)) IS NULL THEN
        -- Two agents that share a database must not both make it.
        PERFORM pg_advisory_xact_lock(hashtext('homelab.make_partition'));
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I.%I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                       space, leaf, parent, first, first + interval '1 month');
    END IF;
    RETURN leaf;
END
$$;
