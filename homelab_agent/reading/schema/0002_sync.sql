-- Days of the ids that were touched and have not been held against the source since. Written with the rows, so that
-- whatever ends a run, the next one proves its days too.
CREATE TABLE sync_unproven (
    origin text NOT NULL,
    day    text NOT NULL, -- as in sync_proof
    PRIMARY KEY (origin, day)
);

-- Documents that a backfill found edited since they were stored; their rows stay as they are.
ALTER TABLE sync_history ADD COLUMN changed bigint NOT NULL DEFAULT 0;
