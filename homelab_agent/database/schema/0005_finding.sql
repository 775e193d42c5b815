-- What the agent's checks found: a row when the state of one changes, and one for each when an agent starts.

CREATE TABLE finding (
    host       text        NOT NULL,
    check_name text        NOT NULL, -- backup.photos, gate.funnel, ...
    at         timestamptz NOT NULL,
    started_at timestamptz NOT NULL, -- when the agent that says so began: what an earlier one said does not stand any more
    state      text        NOT NULL, -- ok, degraded, failed, disabled, not_available
    expected   text        NOT NULL, -- why it was announced to be so; empty: it was not
    detail     text        NOT NULL,
    repair     text        NOT NULL, -- a command or a key of the configuration; empty where none is known
    PRIMARY KEY (host, check_name, at)
);
COMMENT ON TABLE finding IS 'How each check stood from when on, in words, and what mends it.';

CREATE VIEW standing AS
    SELECT DISTINCT ON (host, check_name) host, check_name, at AS since, state, expected, detail, repair,
           state IN ('failed', 'degraded') AND expected = '' AS needs_you
      FROM finding
     WHERE started_at = (SELECT max(newest.started_at) FROM finding AS newest WHERE newest.host = finding.host)
     ORDER BY host, check_name, at DESC;
COMMENT ON VIEW standing IS 'How each check stands now, as far as its agent has told: see how old its newest sample is.';
