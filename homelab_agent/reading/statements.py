"""What is asked of PostgreSQL; `$1` and so on are each statement's own."""

from __future__ import annotations

LEASE = "SELECT pg_try_advisory_lock($1, $2)"
RELEASE = "SELECT pg_advisory_unlock($1, $2)"

INTERRUPTED = """
UPDATE sync_history SET status = 'interrupted', ended_at = now() WHERE origin = $1 AND status = 'running' AND run <> $2
"""

BEGIN = """
INSERT INTO sync_history (run, origin, stream, host) VALUES ($1, $2, $3, $4) ON CONFLICT (run, origin) DO NOTHING
"""

END = """
UPDATE sync_history SET ended_at = now(), status = $3, inserted = $4, duplicate = $5, marked = $6, rejected = $7,
                        skipped = $8, backlog = $9, error = $10
 WHERE run = $1 AND origin = $2
"""

KNOWN = "SELECT key, state FROM reading_rejected WHERE origin = $1 AND key = ANY ($2::text[])"

INSERT = """
INSERT INTO reading_analytics
       (mongo_id, event_timestamp, source, event_type, payload, meta, content_hash, origin, first_seen_run)
SELECT mongo_id, event_timestamp, source, event_type, payload::jsonb, meta::jsonb, content_hash, $8, $9
  FROM unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
       AS new (mongo_id, event_timestamp, source, event_type, payload, meta, content_hash)
    ON CONFLICT (mongo_id) DO NOTHING
RETURNING mongo_id
"""

CHANGED = """
SELECT new.mongo_id
  FROM unnest($1::text[], $2::bytea[]) AS new (mongo_id, content_hash)
  JOIN reading_analytics AS old ON old.mongo_id = new.mongo_id AND old.content_hash <> new.content_hash
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

COUNT = """
UPDATE sync_history SET inserted = $3, duplicate = $4, marked = $5, rejected = $6, skipped = $7
 WHERE run = $1 AND origin = $2
"""

THERE = "SELECT mongo_id FROM reading_analytics WHERE mongo_id = ANY ($1::text[])"

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
       marked, rejected, skipped, backlog, error
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
 WHERE state = 'rejected' AND ($1 = '' OR origin = $1) AND ($2::text[] IS NULL OR key = ANY ($2::text[]))
"""

SET_STATE = "UPDATE reading_rejected SET state = $3 WHERE origin = $1 AND key = ANY ($2::text[]) AND state = 'rejected'"
