-- What became of every webhook delivery, and every deployment with its actions; rows come when each has ended.

CREATE TABLE gitops_verdict (
    host        text        NOT NULL,
    guid        text        NOT NULL, -- the forge's: X-GitHub-Delivery
    attempt     integer     NOT NULL, -- 1, and one more for each redelivery or replay
    repository  text        NOT NULL, -- as the configuration calls it; empty where none of them is meant
    event       text        NOT NULL,
    ref         text        NOT NULL,
    key_name    text        NOT NULL, -- the secret that it was signed with
    source      text        NOT NULL,
    verdict     text        NOT NULL,
    detail      text        NOT NULL,
    repair      text        NOT NULL,
    sha_asked   text        NOT NULL,
    sha_reached text        NOT NULL,
    run_id      uuid,                 -- in job_run
    received_at timestamptz NOT NULL,
    opened_at   timestamptz NOT NULL,
    closed_at   timestamptz NOT NULL,
    PRIMARY KEY (host, guid, attempt)
);
CREATE INDEX gitops_verdict_time ON gitops_verdict (host, closed_at);
COMMENT ON TABLE gitops_verdict IS 'What became of each attempt of each webhook delivery.';

CREATE TABLE gitops_move (
    host        text        NOT NULL,
    id          uuid        NOT NULL,
    repository  text        NOT NULL,
    from_sha    text        NOT NULL,
    to_sha      text        NOT NULL,
    state       text        NOT NULL, -- ok, failed, rolled_back, interrupted
    detail      text        NOT NULL,
    run_id      uuid,                 -- in job_run
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    PRIMARY KEY (host, id)
);
CREATE INDEX gitops_move_repository ON gitops_move (host, repository, started_at);
COMMENT ON TABLE gitops_move IS 'Each deployment: from which commit to which.';

CREATE TABLE gitops_action (
    host        text        NOT NULL,
    move_id     uuid        NOT NULL, -- in gitops_move
    position    integer     NOT NULL,
    name        text        NOT NULL,
    state       text        NOT NULL, -- ok, failed, interrupted
    detail      text        NOT NULL,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz NOT NULL,
    PRIMARY KEY (host, move_id, position)
);
COMMENT ON TABLE gitops_action IS 'Each action that followed a deployment.';
