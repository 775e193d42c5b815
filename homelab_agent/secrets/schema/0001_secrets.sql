-- Every new value of a secret: what became of it, never the value.

CREATE TABLE secret_change (
    host       text        NOT NULL,
    id         uuid        NOT NULL,
    at         timestamptz NOT NULL,
    reference  text        NOT NULL,
    version    text        NOT NULL, -- as its store counts; '' where there is no such thing
    outcome    text        NOT NULL, -- adopted, refused (its trial failed; the old value stays), incomplete
    cause      text        NOT NULL,
    PRIMARY KEY (host, id)
);
CREATE INDEX secret_change_time ON secret_change (host, at);
COMMENT ON TABLE secret_change IS 'Each new value of a secret: when, which version, and whether it was taken over.';
