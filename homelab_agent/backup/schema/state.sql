-- The catalogue of backups in state.db (catalogue.py). Times are microseconds since 1970 in UTC.

-- An archive that was made here, or that an engine said is there.
CREATE TABLE IF NOT EXISTS backup_archive (
    engine         TEXT    NOT NULL,
    id             TEXT    NOT NULL,
    set_name       TEXT    NOT NULL,
    at             INTEGER NOT NULL, -- the moment that it is of
    verdict        TEXT    NOT NULL,
    sha256         TEXT    NOT NULL,
    bytes          INTEGER NOT NULL,
    stored_bytes   INTEGER NOT NULL,
    files          INTEGER NOT NULL,
    run_id         TEXT    NOT NULL, -- which made it; '' where nobody here did
    verified_at    INTEGER,          -- NULL: nobody here has read it back
    verified_ok    INTEGER,
    proven_at      INTEGER,          -- by the last drill that went well
    proven_seconds REAL,
    deleted_at     INTEGER,
    PRIMARY KEY (engine, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS backup_archive_set ON backup_archive (set_name, at);

-- Why nothing of a set is deleted at an engine at present.
CREATE TABLE IF NOT EXISTS backup_held (
    set_name TEXT    NOT NULL,
    engine   TEXT    NOT NULL,
    why      TEXT    NOT NULL,
    since    INTEGER NOT NULL,
    PRIMARY KEY (set_name, engine)
) STRICT, WITHOUT ROWID;

-- Each restore that was done to see whether it can be.
CREATE TABLE IF NOT EXISTS backup_drill (
    id       TEXT PRIMARY KEY,
    engine   TEXT    NOT NULL,
    archive  TEXT    NOT NULL,
    set_name TEXT    NOT NULL,
    ok       INTEGER NOT NULL,
    detail   TEXT    NOT NULL,
    repair   TEXT    NOT NULL, -- '' where it went well, or nothing is known to mend it
    seconds  REAL    NOT NULL,
    ended_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS backup_drill_set ON backup_drill (set_name, ended_at);

-- What went wrong with a set at an engine in its last run there; none where that went well.
CREATE TABLE IF NOT EXISTS backup_trouble (
    set_name TEXT NOT NULL,
    engine   TEXT NOT NULL,
    what     TEXT NOT NULL,
    repair   TEXT NOT NULL, -- '' where nothing is known to mend it
    PRIMARY KEY (set_name, engine)
) STRICT, WITHOUT ROWID;

-- For how long each container stood still in its set's last run that went well.
CREATE TABLE IF NOT EXISTS backup_frozen (
    set_name  TEXT    NOT NULL,
    container TEXT    NOT NULL,
    ms        INTEGER NOT NULL,
    PRIMARY KEY (set_name, container)
) STRICT, WITHOUT ROWID;
