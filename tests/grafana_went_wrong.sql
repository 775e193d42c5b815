-- What is seen only when something went wrong, within the last hour.
UPDATE homelab.unit_sample SET failed = true, state = 'failed', result = 'exit-code', restarts = 9, restarted = 3
 WHERE time > now() - INTERVAL '1 hour' AND entity_id = (SELECT id FROM homelab.entity WHERE key = 'docker.service' AND host = 'nas');
UPDATE homelab.container_sample SET restarted = 1, restarts = 4
 WHERE time > now() - INTERVAL '5 minutes' AND entity_id = (SELECT id FROM homelab.entity WHERE key = 'photos/db/1' AND host = 'nas');
UPDATE homelab.tick SET skipped = 4 WHERE host = 'nas' AND time > now() - INTERVAL '9 minutes';
INSERT INTO homelab.interruption VALUES ('nas', now() - INTERVAL '30 minutes', now() - INTERVAL '20 minutes', 'suspended');
INSERT INTO homelab.gap VALUES ('nas', now() - INTERVAL '30 minutes', now() - INTERVAL '20 minutes', 'the spool is full', 400);
INSERT INTO homelab.job_run VALUES
    (gen_random_uuid(), 'nas', 'database.rollups', 'schedule', 'failed', 'out of memory', 'homelab-agent doctor', now() - INTERVAL '5 minutes', NULL, now() - INTERVAL '4 minutes');
INSERT INTO homelab.finding VALUES
    ('nas', 'gate.funnel', now() - INTERVAL '9 minutes', now() - INTERVAL '50 minutes', 'failed', '', 'the policy lacks funnel', 'homelab-agent doctor gate');
INSERT INTO homelab.reading_rejected (origin, key, cause, detail, raw, first_run, last_run)
    SELECT 'feeds', 'abc', 'nul', 'a text has a zero byte', '{}', run, run FROM homelab.sync_history LIMIT 1;
INSERT INTO homelab.sync_proof
    SELECT run, origin, '2026-11-28', 5, 4, 0, 0, 'a', 'b' FROM homelab.sync_history ORDER BY started_at DESC LIMIT 1;
