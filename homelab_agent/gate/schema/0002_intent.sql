-- What operators want of the door to the internet: each hold and each release, as it was said.

CREATE TABLE gate_intent (
    host    text        NOT NULL,
    said_at timestamptz NOT NULL,
    is_held boolean     NOT NULL, -- false: released
    who     text        NOT NULL, -- homelab-agent: earlier state was lost, and with it perhaps a hold
    why     text        NOT NULL, -- empty for a release
    until   timestamptz,          -- NULL: until it is released
    PRIMARY KEY (host, said_at)
);
COMMENT ON TABLE gate_intent IS 'Each time that somebody held the door to the internet shut, or released it.';

CREATE VIEW gate_hold AS
    SELECT host, said_at AS held_at, LEAST(until, next_at) AS ended_at, who, why, until
      FROM (SELECT *, lead(said_at) OVER (PARTITION BY host ORDER BY said_at) AS next_at FROM gate_intent) AS word
     WHERE is_held;
COMMENT ON VIEW gate_hold IS
    'From when to when the door to the internet was held shut, by whom and why; ended_at is NULL until it is released.';
