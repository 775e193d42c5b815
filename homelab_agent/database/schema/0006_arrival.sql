-- Which of an agent's findings are the newest is told by the order in which they came, not by its clock: a start in 2030
-- would stand for ever, and what a Pi without a hardware clock says after its next start would not.

ALTER TABLE finding ADD COLUMN arrival bigint GENERATED ALWAYS AS IDENTITY; -- an agent's rows come as it has told them
CREATE INDEX finding_arrival ON finding (host, arrival);
CREATE INDEX finding_start ON finding (host, started_at, check_name, arrival);

-- Few rows are read, however many starts there were: of each host the newest one, then those of the same start.
CREATE OR REPLACE VIEW standing AS
    WITH RECURSIVE known AS (
          (SELECT host FROM finding ORDER BY host LIMIT 1)
           UNION ALL
          SELECT (SELECT later.host FROM finding AS later WHERE later.host > known.host ORDER BY later.host LIMIT 1)
            FROM known WHERE known.host IS NOT NULL)
    SELECT known.host, told.check_name, told.at AS since, told.state, told.expected, told.detail, told.repair,
           told.state IN ('failed', 'degraded') AND told.expected = '' AS needs_you
      FROM known
     CROSS JOIN LATERAL (
           SELECT newest.started_at FROM finding AS newest
            WHERE newest.host = known.host ORDER BY newest.arrival DESC LIMIT 1) AS last
     CROSS JOIN LATERAL (
           SELECT DISTINCT ON (of_start.check_name) * FROM finding AS of_start
            WHERE of_start.host = known.host AND of_start.started_at = last.started_at
            ORDER BY of_start.check_name, of_start.arrival DESC) AS told;
