-- When there are no samples, and why: `silence` tells "host off", "agent down", "suspended", "held up" and "clock set"
-- apart (metrics/silences.py). That PostgreSQL was away leaves no silence: see tick.spooled.

CREATE TABLE agent_start (
    host        text NOT NULL,
    time        timestamptz NOT NULL, -- of the first sample
    boot_at     timestamptz NOT NULL, -- when the host was started
    interval_s  integer NOT NULL, -- between two samples
    version     text NOT NULL,
    PRIMARY KEY (host, time)
);
COMMENT ON TABLE agent_start IS 'Each start of the agent: a row with its first sample.';

CREATE TABLE interruption (
    host        text NOT NULL,
    from_at     timestamptz NOT NULL, -- of the last sample before it
    to_at       timestamptz NOT NULL, -- of the first one after it
    cause       text NOT NULL, -- suspended, held up, not kept; clock set: there were no such times
    PRIMARY KEY (host, from_at)
);
COMMENT ON TABLE interruption IS 'When an agent that ran took no sample, and why.';

CREATE VIEW silence AS
    SELECT host, from_at, to_at, cause FROM interruption
    UNION ALL
    SELECT started.host, part.from_at, part.to_at, part.cause
      FROM agent_start AS started
     CROSS JOIN LATERAL (
           SELECT tick.time FROM tick
            WHERE tick.host = started.host AND tick.time < started.time ORDER BY tick.time DESC LIMIT 1) AS last
     CROSS JOIN LATERAL (
           VALUES (last.time, started.boot_at, 'host off'),
                  (greatest(last.time, started.boot_at), started.time, 'agent down')) AS part (from_at, to_at, cause)
     WHERE part.to_at - part.from_at > 2.5 * started.interval_s * interval '1 second';
COMMENT ON VIEW silence IS 'From when to when there are no samples, and why: from the last before it to the first after it.';
