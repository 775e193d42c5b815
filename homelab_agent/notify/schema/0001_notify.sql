-- What was told to whom: a row for each message, when it was taken by the other side or given up.

CREATE TABLE notification (
    host     text        NOT NULL,
    id       uuid        NOT NULL,
    target   text        NOT NULL,
    severity text        NOT NULL, -- warning, failed, critical: the worst in it
    title    text        NOT NULL,
    checks   text        NOT NULL, -- what it was about, the first of many
    made_at  timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    outcome  text        NOT NULL, -- sent, given up
    tries    integer     NOT NULL,
    answer   text        NOT NULL, -- what the other side said last
    PRIMARY KEY (host, id)
);
CREATE INDEX notification_time ON notification (host, made_at);
COMMENT ON TABLE notification IS 'Each message to a target: what about, when it was taken or given up, and after how many tries.';
