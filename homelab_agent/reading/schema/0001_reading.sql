-- What was read. It is one plain table on every edition: `mongo_id` is unique by itself, which no hypertable can promise
-- (each of its unique indexes needs the time in it), and some hundred rows a day need no chunks.
CREATE TABLE reading_analytics (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mongo_id        text        COLLATE "C" NOT NULL UNIQUE, -- an ObjectId's 24 hex digits; any other id as extended JSON
    event_timestamp timestamptz NOT NULL,
    source          text        NOT NULL, -- as the document says
    event_type      text        NOT NULL,
    payload         jsonb       NOT NULL,
    meta            jsonb       NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    origin          text        NOT NULL, -- the [[reading.source]] that it came from
    content_hash    bytea       NOT NULL, -- SHA-256 over all that the document says
    first_seen_run  uuid        NOT NULL
);
CREATE INDEX reading_analytics_time ON reading_analytics (event_timestamp);
COMMENT ON TABLE reading_analytics IS 'What was read: one row for each document of a reading source.';

-- What is in none of the above: no document is lost, and none stops the others.
CREATE TABLE reading_rejected (
    origin     text        NOT NULL,
    key        text        COLLATE "C" NOT NULL, -- as mongo_id
    state      text        NOT NULL DEFAULT 'rejected', -- or retry: the next run tries it again; dropped: nobody wants it
    cause      text        NOT NULL, -- one word: not_finite, nul, date, no_time, too_large, mixed, undecodable, refused, changed
    detail     text        NOT NULL,
    raw        text        NOT NULL, -- the document as extended JSON, or its BSON in base64
    attempts   integer     NOT NULL DEFAULT 1,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    first_run  uuid        NOT NULL,
    last_run   uuid        NOT NULL,
    PRIMARY KEY (origin, key)
);

CREATE TABLE sync_history (
    run        uuid        NOT NULL,
    origin     text        NOT NULL,
    stream     text        NOT NULL, -- sync, or which backfill
    host       text        NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    status     text        NOT NULL DEFAULT 'running', -- ok, partial, failed; interrupted: its agent was killed
    inserted   bigint      NOT NULL DEFAULT 0,
    duplicate  bigint      NOT NULL DEFAULT 0, -- were here already, with the same content
    marked     bigint      NOT NULL DEFAULT 0, -- at the source, by this run
    rejected   bigint      NOT NULL DEFAULT 0,
    skipped    bigint      NOT NULL DEFAULT 0, -- were rejected before
    backlog    bigint,                         -- what is left to be taken at the source; NULL: it does not say
    error      text        NOT NULL DEFAULT '',
    PRIMARY KEY (run, origin)
);
CREATE INDEX sync_history_time ON sync_history (origin, started_at);

-- How far each stream of a source is; written together with the rows.
CREATE TABLE sync_cursor (
    origin     text        NOT NULL,
    stream     text        NOT NULL,
    cursor     jsonb       NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (origin, stream)
);

-- The proof of each run: source and rows compared for each day (in UTC) of the ids that it has taken.
CREATE TABLE sync_proof (
    run         uuid   NOT NULL,
    origin      text   NOT NULL,
    day         text   NOT NULL, -- 2026-11-28, or other: ids that hold no time
    processed   bigint NOT NULL, -- at the source
    stored      bigint NOT NULL, -- rows here
    refused     bigint NOT NULL, -- marked rejected at the source
    rejected    bigint NOT NULL, -- here
    source_hash text   NOT NULL, -- of the set of ids, see proof.py
    stored_hash text   NOT NULL,
    PRIMARY KEY (run, origin, day)
);

-- Which keys documents have had; a new one is logged once.
CREATE TABLE reading_key (
    origin     text        NOT NULL,
    key        text        NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    first_run  uuid        NOT NULL,
    PRIMARY KEY (origin, key)
);

CREATE FUNCTION reading_seconds(payload jsonb) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
SELECT CASE
    WHEN jsonb_typeof(payload -> 'reading_seconds') = 'number' THEN (payload ->> 'reading_seconds')::double precision
    WHEN jsonb_typeof(payload -> 'duration_seconds') = 'number' THEN (payload ->> 'duration_seconds')::double precision
    WHEN jsonb_typeof(payload -> 'reading_time') = 'number' THEN 60 * (payload ->> 'reading_time')::double precision
END
$$;
COMMENT ON FUNCTION reading_seconds IS 'How long was read: reading_seconds, duration_seconds, or reading_time in minutes.';

CREATE VIEW reading_per_day AS
SELECT date_trunc('day', event_timestamp, 'UTC') AS day,
       origin, source, event_type,
       count(*) AS events,
       coalesce(sum(reading_seconds(payload)), 0) AS reading_seconds
  FROM reading_analytics
 GROUP BY 1, 2, 3, 4;

CREATE VIEW reading_freshness AS
SELECT origin,
       max(event_timestamp) AS newest_event,
       max(created_at) AS newest_row,
       extract(epoch FROM now() - max(created_at))::double precision AS age_seconds
  FROM reading_analytics
 GROUP BY origin;

CREATE VIEW reading_backlog AS
SELECT DISTINCT ON (origin) origin, started_at AS at, backlog, status,
       (SELECT count(*) FROM reading_rejected AS r WHERE r.origin = h.origin AND r.state <> 'dropped') AS rejected
  FROM sync_history AS h
 WHERE stream = 'sync' AND status <> 'running'
 ORDER BY origin, started_at DESC;
