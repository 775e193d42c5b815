-- What proves that a caller is the operator. Only digests are kept: who reads this file cannot log in with it.
-- Times are seconds since the epoch; expires_at is NULL for a token, which ends when it is revoked.
CREATE TABLE IF NOT EXISTS web_credential (
    digest     BLOB NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('link', 'session', 'token')),
    name       TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS web_credential_token_name ON web_credential (name) WHERE kind = 'token';
