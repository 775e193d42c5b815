-- Every opening of the door to the internet; its row comes when it has ended.

CREATE TABLE gate_exposure (
    host       text             NOT NULL,
    id         uuid             NOT NULL,
    opened_at  timestamptz      NOT NULL,
    opened_why text             NOT NULL,
    closed_at  timestamptz      NOT NULL,
    closed_why text             NOT NULL,
    checks     text             NOT NULL, -- those that decided it, with commas between
    seconds    double precision NOT NULL, -- by a clock that nobody sets
    requests   bigint           NOT NULL,
    sources    bigint           NOT NULL, -- distinct addresses; 10,000 are at least so many
    sent_bytes bigint           NOT NULL,
    PRIMARY KEY (host, id)
);
CREATE INDEX gate_exposure_time ON gate_exposure (host, opened_at);
COMMENT ON TABLE gate_exposure IS 'Each time that the internet was let in: from when to when, why, and who came.';
