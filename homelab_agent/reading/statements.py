"""What is asked of PostgreSQL; `$1` and so on are each statement's own."""

from __future__ import annotations

LEASE = "SELECT pg_try_advisory_lock($1, $2)"
RELEASE = "SELECT pg_advisory_unlock_all(); RESET application_name"

CALL_SESSION = "SELECT set_config('application_name', $1, false)"

LEASE_IS_OURS = """
SELECT coalesce(holder.application_name = current_setting('application_name'), false)
  FROM pg_locks AS lock JOIN pg_stat_activity AS holder USING (pid)
 WHERE lock.locktype = 'advisory' AND lock.granted AND lock.objsubid = 2
   AND lock.classid = $1::int4::oid AND lock.objid = $2::int4::oid
   AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""Whether the lock's holder is a session of this host; no row where nobody holds it."""

LEFT_RUNNING = """
SELECT run, origin, host, inserted + duplicate + changed + rejected + skipped > 0 AS has_taken
  FROM sync_history WHERE status = 'running' AND ($1 = '' OR origin = $1) AND ($2 = '' OR host = $2)
"""

SETTLE = """
UPDATE sync_history SET status = $3, ended_at = $4, error = $5 WHERE run = $1 AND origin = $2 AND status = 'running'
"""

BEGIN = """
INSERT INTO sync_history (run, origin, stream, host) VALUES ($1, $2, $3, $4) ON CONFLICT (run, origin) DO NOTHING
"""

COUNTED = """
SELECT inserted, duplicate, changed, marked, rejected, skipped FROM sync_history WHERE run = $1 AND origin = $2
"""

COUNT = """
UPDATE sync_history SET inserted = $3, duplicate = $4, changed = $5, marked = $6, rejected = $7, skipped = $8
 WHERE run = $1 AND origin = $2
"""

END = "UPDATE sync_history SET ended_at = now(), status = $3, backlog = $4, error = $5 WHERE run = $1 AND origin = $2"

KNOWN = "SELECT key, state, last_run FROM reading_rejected WHERE origin = $1 AND key = ANY ($2::text[])"

INSERT = """
INSERT INTO reading_analytics
       (mongo_id, event_timestamp, source, event_type, payload, meta, content_hash, origin, first_seen_run)
SELECT mongo_id, event_timestamp, source, event_type, payload::jsonb, meta::jsonb, content_hash, $8, $9
  FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
       AS new (mongo_id, event_timestamp, source, event_type, payload, meta, content_hash)
    ON CONFLICT (mongo_id) DO NOTHING
RETURNING mongo_id
"""

MET = """
SELECT old.mongo_id, old.origin, old.content_hash <> new.content_hash AS differs, old.first_seen_run = $3 AS is_ours
  FROM unnest($1::text[], $2::bytea[]) AS new (mongo_id, content_hash)
  JOIN reading_analytics AS old ON old.mongo_id = new.mongo_id
"""

REJECT = """
INSERT INTO reading_rejected (origin, key, cause, detail, raw, first_run, last_run)
SELECT $1, key, cause, detail, raw, $2, $2
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[]) AS new (key, cause, detail, raw)
    ON CONFLICT (origin, key) DO UPDATE
   SET state = 'rejected', cause = excluded.cause, detail = excluded.detail, raw = excluded.raw,
       attempts = reading_rejected.attempts + 1, last_seen = now(), last_run = excluded.last_run
"""

ACCEPTED = "DELETE FROM reading_rejected WHERE origin = $1 AND key = ANY ($2::text[])"

NEW_KEYS = """
INSERT INTO reading_key (origin, key, first_run) SELECT $1, unnest($2::text[]), $3 ON CONFLICT DO NOTHING RETURNING key
"""

CURSOR = "SELECT cursor FROM sync_cursor WHERE origin = $1 AND stream = $2"

CHECKPOINT = """
INSERT INTO sync_cursor (origin, stream, cursor) VALUES ($1, $2, $3::jsonb)
    ON CONFLICT (origin, stream) DO UPDATE SET cursor = excluded.cursor, updated_at = now()
"""

THERE = "SELECT mongo_id FROM reading_analytics WHERE mongo_id = ANY ($1::text[]) AND origin = $2"

_SIDES = """
SELECT mongo_id AS key, false AS refused FROM reading_analytics AS stored
 WHERE origin = $1 AND NOT EXISTS (SELECT FROM reading_rejected WHERE origin = $1 AND key = stored.mongo_id)
   AND mongo_id >= $2 AND mongo_id < $3
 UNION ALL
SELECT key, true FROM reading_rejected WHERE origin = $1 AND state <> 'retry' AND key >= $2 AND key < $3
"""

KEYS = f"SELECT key, refused FROM ({_SIDES}) AS sides WHERE (key ~ '^[0-9a-f]{{24}}$') = $4"  # noqa: S608
"""Which documents are here, as rows or rejected, from one key to another; with ids that hold a time, or without."""

HASHES = f"""
SELECT day, refused, count(*) AS count,
       bit_xor(('x' || left(hash, 16))::bit(64)::bigint) AS high,
       bit_xor(('x' || right(hash, 16))::bit(64)::bigint) AS low
  FROM (SELECT refused, md5(CASE WHEN refused THEN '!' ELSE '' END || key) AS hash,
               CASE WHEN $4 THEN to_char(to_timestamp(('x' || left(key, 8))::bit(32)::bigint) AT TIME ZONE 'UTC',
                                         'YYYY-MM-DD')
                    ELSE 'other' END AS day
          FROM ({KEYS}) AS keys) AS hashes
 GROUP BY 1, 2
"""  # noqa: S608 - only constants of this module
"""The same, counted and hashed for each day; see `proof.Digest`."""

TOUCHED = "INSERT INTO sync_unproven (origin, day) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING"

UNPROVEN = "SELECT day FROM sync_unproven WHERE origin = $1"

TOUCHED_EVER = "SELECT day FROM sync_proof WHERE origin = $1 UNION SELECT day FROM sync_unproven WHERE origin = $1"

COMPARED = "DELETE FROM sync_unproven WHERE origin = $1 AND day = ANY ($2::text[])"

PROVEN = """
INSERT INTO sync_proof (run, origin, day, processed, stored, refused, rejected, source_hash, stored_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (run, origin, day) DO UPDATE
   SET processed = excluded.processed, stored = excluded.stored, refused = excluded.refused,
       rejected = excluded.rejected, source_hash = excluded.source_hash, stored_hash = excluded.stored_hash
"""

FORGET_CURSOR = "DELETE FROM sync_cursor WHERE origin = $1 AND stream = $2"

LAST_RUNS = """
SELECT DISTINCT ON (origin) origin, run, stream, host, started_at, ended_at, status, inserted, duplicate,
       changed, marked, rejected, skipped, backlog, error
  FROM sync_history WHERE stream = 'sync' ORDER BY origin, started_at DESC
"""

WAITING = "SELECT origin, count(*) AS count FROM reading_rejected WHERE state = 'rejected' GROUP BY origin"

REJECTED = """
SELECT origin, key, state, cause, detail, attempts, first_seen, last_seen, length(raw) AS bytes
  FROM reading_rejected WHERE ($1 = '' OR origin = $1) ORDER BY last_seen DESC, key LIMIT $2
"""

REJECTED_ONE = "SELECT * FROM reading_rejected WHERE key = $1 AND ($2 = '' OR origin = $2)"

CHOOSE = """
SELECT origin, key FROM reading_rejected
 WHERE state <> 'dropped' AND ($1 = '' OR origin = $1) AND ($2::text[] IS NULL OR key = ANY ($2::text[]))
"""

SET_STATE = """
UPDATE reading_rejected SET state = $3 WHERE origin = $1 AND key = ANY ($2::text[]) AND state <> 'dropped'
"""

TO_RETRY = """
SELECT key, CASE WHEN key LIKE 'sha256:%' THEN raw ELSE '' END AS raw
  FROM reading_rejected WHERE origin = $1 AND state = 'retry'
"""
"""What is to be tried again, whole where the key does not lead to the document."""
