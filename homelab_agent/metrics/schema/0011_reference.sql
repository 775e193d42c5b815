-- How far `homelab-agent db import-reference` has come (metrics/importing.py): what it has taken of each table, committed
-- together with the rows that came of it.

CREATE TABLE reference_import (
    source      text NOT NULL, -- the database it is read from, without a password
    relation    text NOT NULL, -- the table there
    since       text NOT NULL, -- from when on it was asked for; empty: from the beginning
    hosts       text NOT NULL, -- how hosts are called here: "old=new", by name
    position    timestamptz NOT NULL, -- all rows up to this time are taken
    rows        bigint NOT NULL, -- how many that are
    state       jsonb NOT NULL, -- what the next row is seen against: counters, times in use, lines that were joined
    began_at    timestamptz NOT NULL,
    moved_at    timestamptz NOT NULL,
    PRIMARY KEY (source, relation, since, hosts)
);
COMMENT ON TABLE reference_import IS 'Up to when each table of the time before has been imported.';
