-- What GitOps keeps in state.db (inbox.py, moves.py). Times are microseconds since 1970 in UTC; SHAs are Git's.

-- A webhook's request that was verified; ids are in the order of arrival.
CREATE TABLE IF NOT EXISTS gitops_delivery (
    id          INTEGER PRIMARY KEY,
    guid        TEXT    NOT NULL UNIQUE,
    event       TEXT    NOT NULL,
    repository  TEXT    NOT NULL, -- as the configuration calls it; '' where none of them is meant
    ref         TEXT    NOT NULL,
    after_sha   TEXT    NOT NULL,
    key_name    TEXT    NOT NULL, -- the secret that it was signed with
    source      TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    size        INTEGER NOT NULL, -- bytes of disk
    digest      BLOB    NOT NULL, -- SHA-256 of the body
    headers     TEXT    NOT NULL, -- JSON
    body        BLOB    NOT NULL  -- zlib
) STRICT;
CREATE INDEX IF NOT EXISTS gitops_delivery_digest ON gitops_delivery (digest);

-- The repositories with whose secrets a delivery was signed: what follows from it, now or when it is replayed, follows
-- for these only.
CREATE TABLE IF NOT EXISTS gitops_signer (
    delivery   INTEGER NOT NULL REFERENCES gitops_delivery ON DELETE CASCADE,
    repository TEXT    NOT NULL,
    PRIMARY KEY (delivery, repository)
) STRICT, WITHOUT ROWID;

-- How much all deliveries take up.
CREATE TABLE IF NOT EXISTS gitops_inbox (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    bytes INTEGER NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS gitops_delivery_comes AFTER INSERT ON gitops_delivery BEGIN
    INSERT INTO gitops_inbox (one, bytes) VALUES (1, new.size) ON CONFLICT (one) DO UPDATE SET bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS gitops_delivery_goes AFTER DELETE ON gitops_delivery BEGIN
    UPDATE gitops_inbox SET bytes = bytes - old.size;
END;

-- What was tried for a delivery: the first, and one more for each redelivery or replay. Open while it has no verdict.
CREATE TABLE IF NOT EXISTS gitops_attempt (
    delivery    INTEGER NOT NULL REFERENCES gitops_delivery ON DELETE CASCADE,
    number      INTEGER NOT NULL,
    opened_at   INTEGER NOT NULL,
    verdict     TEXT    NOT NULL DEFAULT '',
    detail      TEXT    NOT NULL DEFAULT '',
    repair      TEXT    NOT NULL DEFAULT '',
    sha_asked   TEXT    NOT NULL DEFAULT '',
    sha_reached TEXT    NOT NULL DEFAULT '',
    run_id      TEXT,
    closed_at   INTEGER,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gitops_attempt_open ON gitops_attempt (delivery) WHERE verdict = '';

-- The forge's number of a repository whose configuration does not say it: from the first verified delivery.
CREATE TABLE IF NOT EXISTS gitops_learned_id (
    repository TEXT PRIMARY KEY,
    full_name  TEXT    NOT NULL,
    id         INTEGER NOT NULL,
    learned_at INTEGER NOT NULL
) STRICT;

-- One deployment: a working copy that moved from one commit to the next, and what followed.
-- The last that is 'ok' is what is deployed; the first, which goes nowhere, what was there: '' for no commit at all.
-- The order is that of rowid.
CREATE TABLE IF NOT EXISTS gitops_move (
    id         TEXT PRIMARY KEY,
    repository TEXT    NOT NULL,
    from_sha   TEXT    NOT NULL,
    to_sha     TEXT    NOT NULL,
    state      TEXT    NOT NULL, -- running, ok, failed, rolled_back, interrupted
    detail     TEXT    NOT NULL DEFAULT '',
    run_id     TEXT,
    started_at INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS gitops_move_repository ON gitops_move (repository);

-- Of those that go back why they do: a person asked for it, or how what was deployed had failed.
CREATE TABLE IF NOT EXISTS gitops_back (
    move_id TEXT PRIMARY KEY REFERENCES gitops_move ON DELETE CASCADE,
    why     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- An action of a move, from before it begins.
CREATE TABLE IF NOT EXISTS gitops_action (
    move_id    TEXT    NOT NULL REFERENCES gitops_move ON DELETE CASCADE,
    position   INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    state      TEXT    NOT NULL, -- started, ok, failed, interrupted
    detail     TEXT    NOT NULL DEFAULT '',
    started_at INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (move_id, position)
) STRICT, WITHOUT ROWID;

-- A commit that was rolled back: polling does not deploy it again.
CREATE TABLE IF NOT EXISTS gitops_bad_sha (
    repository TEXT    NOT NULL,
    sha        TEXT    NOT NULL,
    why        TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (repository, sha)
) STRICT, WITHOUT ROWID;
