-- What notify keeps in state.db (queue.py, book.py, mute.py). Times are microseconds since 1970 in UTC.

-- What was told of each check, so that a restart tells nothing twice and no recovery is forgotten.
CREATE TABLE IF NOT EXISTS notify_case (
    check_name TEXT PRIMARY KEY,
    told       INTEGER NOT NULL, -- severity: 0 none, 1 warning, 2 failed, 3 critical
    began      INTEGER,
    tells      TEXT    NOT NULL  -- times of what was told within a day, as JSON
) STRICT;

-- How bad those cases were that count as told of less by now.
CREATE TABLE IF NOT EXISTS notify_worst (
    check_name TEXT PRIMARY KEY,
    worst      INTEGER NOT NULL -- severity
) STRICT;

-- Of a check that stands for many, which of them were told; those of a case.
CREATE TABLE IF NOT EXISTS notify_part (
    check_name TEXT    NOT NULL,
    part       TEXT    NOT NULL, -- the key of a disk, a unit, a filesystem
    is_told    INTEGER NOT NULL,
    tells      TEXT    NOT NULL, -- times of what was told within a day, as JSON
    PRIMARY KEY (check_name, part)
) STRICT;

-- Messages, each for one target, from before anything is sent; the order is that of rowid.
CREATE TABLE IF NOT EXISTS notify_message (
    id       TEXT PRIMARY KEY,
    target   TEXT    NOT NULL,
    made_at  INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    items    TEXT    NOT NULL,
    tried_at INTEGER,          -- since when its target has not taken it
    tries    INTEGER NOT NULL DEFAULT 0,
    answer   TEXT    NOT NULL DEFAULT '',
    ended_at INTEGER,          -- NULL while it waits
    outcome  TEXT    NOT NULL DEFAULT '' -- sent, given up
) STRICT;
CREATE INDEX IF NOT EXISTS notify_message_waiting ON notify_message (target) WHERE ended_at IS NULL;

-- Of a message that waits, how often its target has perhaps taken it and did not say so.
CREATE TABLE IF NOT EXISTS notify_unclear (
    id      TEXT PRIMARY KEY,
    answers INTEGER NOT NULL
) STRICT;

-- When a target took a test, had another address or was removed: what was given up before that stands for nothing.
CREATE TABLE IF NOT EXISTS notify_forgiven (
    target TEXT PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT;

-- The operator's word: nothing is told until then.
CREATE TABLE IF NOT EXISTS notify_mute (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    who    TEXT    NOT NULL,
    reason TEXT    NOT NULL,
    since  INTEGER NOT NULL,
    until  INTEGER NOT NULL
) STRICT;

-- The last test of each target.
CREATE TABLE IF NOT EXISTS notify_test (
    target TEXT PRIMARY KEY,
    at     INTEGER NOT NULL,
    ok     INTEGER NOT NULL,
    answer TEXT    NOT NULL
) STRICT;

-- The agent's last life: one that did not end by itself is told by the next.
CREATE TABLE IF NOT EXISTS notify_life (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    boot     TEXT    NOT NULL,
    began_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
