-- Every archive, every run that made or tried to make one, every drill.

CREATE TABLE backup_archive (
    host         text        NOT NULL,
    engine       text        NOT NULL, -- archive, or the repository's name
    id           text        NOT NULL,
    set_name     text        NOT NULL,
    at           timestamptz NOT NULL, -- the moment that it is of
    verdict      text        NOT NULL, -- cold, crash, dump, live, dirty
    sha256       text        NOT NULL,
    bytes        bigint      NOT NULL, -- as read
    stored_bytes bigint      NOT NULL, -- as kept
    files        bigint      NOT NULL,
    PRIMARY KEY (host, engine, id)
);
CREATE INDEX backup_archive_time ON backup_archive (host, set_name, at);
COMMENT ON TABLE backup_archive IS 'Each archive that counts, when it was made or found.';

CREATE TABLE backup_run (
    host       text        NOT NULL,
    id         uuid        NOT NULL,
    run_id     uuid,                 -- in job_run
    set_name   text        NOT NULL,
    engine     text        NOT NULL,
    state      text        NOT NULL, -- ok, failed
    detail     text        NOT NULL,
    archive_id text        NOT NULL, -- '' where there is none
    bytes      bigint      NOT NULL,
    frozen_ms  jsonb       NOT NULL, -- by container
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL,
    PRIMARY KEY (host, id)
);
CREATE INDEX backup_run_time ON backup_run (host, set_name, ended_at);
COMMENT ON TABLE backup_run IS 'Each run of a set at an engine, with the milliseconds that each container stood still.';

CREATE TABLE backup_drill (
    host       text             NOT NULL,
    id         uuid             NOT NULL,
    engine     text             NOT NULL,
    archive_id text             NOT NULL,
    set_name   text             NOT NULL,
    ok         boolean          NOT NULL,
    detail     text             NOT NULL,
    seconds    double precision NOT NULL,
    ended_at   timestamptz      NOT NULL,
    PRIMARY KEY (host, id)
);
CREATE INDEX backup_drill_time ON backup_drill (host, set_name, ended_at);
COMMENT ON TABLE backup_drill IS 'Each archive that was restored to see whether it can be.';
