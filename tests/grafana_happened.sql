-- What two agents have done in 90 days, all of it well, the newest within the last hour.
INSERT INTO homelab.agent_start
    SELECT host, now() - days * INTERVAL '7 days' - INTERVAL '50 minutes', now() - days * INTERVAL '7 days' - INTERVAL '55 minutes', 10, '0.1.0'
      FROM unnest(ARRAY['nas', 'pi']) AS host, generate_series(0, 12) AS days;
INSERT INTO homelab.job_run
    SELECT gen_random_uuid(), host, job, 'schedule', 'ok', 'done', '', at, at, at + INTERVAL '20 seconds'
      FROM unnest(ARRAY['nas', 'pi']) AS host, unnest(ARRAY['database.rollups', 'backup.run']) AS job,
           generate_series(now() - INTERVAL '89 days', now() - INTERVAL '10 minutes', INTERVAL '6 hours') AS at;
INSERT INTO homelab.gitops_move
    SELECT host, gen_random_uuid(), 'homelab/stack', md5(at::text), md5(host || at::text), 'ok', '3 files', NULL, at, at + INTERVAL '40 seconds'
      FROM unnest(ARRAY['nas', 'pi']) AS host,
           generate_series(now() - INTERVAL '30 minutes' - INTERVAL '89 days', now() - INTERVAL '20 minutes', INTERVAL '1 day') AS at;
INSERT INTO homelab.gitops_action
    SELECT host, id, 1, 'compose up', state, 'started 2', started_at, ended_at FROM homelab.gitops_move;
INSERT INTO homelab.gitops_verdict
    SELECT host, id::text, 1, repository, 'push', 'refs/heads/main', 'hook', '140.82.112.3', 'ok', '', '', to_sha, to_sha, NULL,
           started_at - INTERVAL '5 seconds', started_at, ended_at FROM homelab.gitops_move;
INSERT INTO homelab.gate_exposure
    SELECT host, gen_random_uuid(), at - INTERVAL '4 hours', 'all is ready', at, 'the agent ends', 'state', 14400, 12, 3, 4096
      FROM unnest(ARRAY['nas', 'pi']) AS host,
           generate_series(now() - INTERVAL '15 minutes' - INTERVAL '89 days', now() - INTERVAL '10 minutes', INTERVAL '1 day') AS at;
INSERT INTO homelab.gate_intent VALUES
    ('nas', now() - INTERVAL '40 minutes', true, 'anna', 'travelling', NULL), ('nas', now() - INTERVAL '30 minutes', false, 'anna', '', NULL);
INSERT INTO homelab.backup_run
    SELECT host, gen_random_uuid(), NULL, name, 'archive', 'ok', '', md5(at::text), 5000000000, '{"photos-db-1": 4200}', at, at + INTERVAL '5 minutes'
      FROM unnest(ARRAY['nas', 'pi']) AS host, unnest(ARRAY['photos', 'homelab-agent']) AS name,
           generate_series(now() - INTERVAL '25 minutes' - INTERVAL '89 days', now() - INTERVAL '10 minutes', INTERVAL '1 day') AS at;
INSERT INTO homelab.backup_archive
    SELECT host, engine, id::text, set_name, started_at, 'cold', md5(id::text), bytes, bytes / 2, 1000 FROM homelab.backup_run;
INSERT INTO homelab.backup_drill
    SELECT host, gen_random_uuid(), 'archive', 'a', name, true, '1000 files, 1 container', 90, now() - days * INTERVAL '14 days' - INTERVAL '12 minutes'
      FROM unnest(ARRAY['nas', 'pi']) AS host, unnest(ARRAY['photos', 'homelab-agent']) AS name, generate_series(0, 6) AS days;
INSERT INTO homelab.reading_analytics (mongo_id, event_timestamp, source, event_type, payload, meta, origin, content_hash, first_seen_run)
    SELECT md5(at::text), at, 'miniflux', 'article_read', '{"title": "On disks", "reading_seconds": 180}', '{}', 'feeds', '\x00', gen_random_uuid()
      FROM generate_series(now() - INTERVAL '8 minutes' - INTERVAL '89 days', now() - INTERVAL '5 minutes', INTERVAL '3 hours') AS at;
INSERT INTO homelab.sync_history (run, origin, stream, host, started_at, ended_at, status, inserted, backlog)
    SELECT gen_random_uuid(), 'feeds', 'sync', 'nas', at, at + INTERVAL '9 seconds', 'ok', 4, 0
      FROM generate_series(now() - INTERVAL '7 minutes' - INTERVAL '89 days', now() - INTERVAL '5 minutes', INTERVAL '12 hours') AS at;
INSERT INTO homelab.secret_change VALUES
    ('nas', gen_random_uuid(), now() - INTERVAL '20 minutes', 'openbao:secret/homelab/postgres#password', '4', 'adopted', '');
INSERT INTO homelab.fact VALUES
    ('nas', 'kernel', '', now() - INTERVAL '20 minutes', '6.12.1', '6.11.4'),
    ('nas', 'image', 'photos/web/1', now() - INTERVAL '20 minutes', 'photos:2', 'photos:1');
INSERT INTO homelab.finding -- of four starts a day, all over now
    SELECT host, 'check.' || number, start, start, 'failed', '', 'then', ''
      FROM unnest(ARRAY['nas', 'pi']) AS host,
           generate_series(now() - INTERVAL '89 days', now() - INTERVAL '2 hours', INTERVAL '6 hours') AS start, generate_series(1, 40) AS number;
INSERT INTO homelab.finding
    SELECT host, name, now() - INTERVAL '49 minutes', now() - INTERVAL '50 minutes', 'ok', '', 'all is well', ''
      FROM unnest(ARRAY['nas', 'pi']) AS host,
           unnest(ARRAY['metrics.sampling', 'gate.funnel', 'webhook', 'gitops.homelab/stack', 'secrets.openbao', 'backup.photos',
                        'reading.feeds', 'reading.weekly', 'spool', 'state', 'metrics.disks']) AS name;
-- A set of two engines that is backed up once a week, at both within minutes, the last time two days ago.
INSERT INTO homelab.backup_run
    SELECT 'nas', gen_random_uuid(), NULL, 'weekly', engine, 'ok', '', md5(engine || at::text), 5000, '{}', at + late, at + late + INTERVAL '1 minute'
      FROM (VALUES ('archive', INTERVAL '0'), ('cloud', INTERVAL '5 minutes')) AS engine (engine, late),
           generate_series(now() - INTERVAL '86 days', now() - INTERVAL '2 days', INTERVAL '7 days') AS at;
INSERT INTO homelab.backup_drill VALUES ('nas', gen_random_uuid(), 'archive', 'a', 'weekly', true, '', 9, now() - INTERVAL '1 day');
-- A source that is read once a week, and one that is configured nowhere any more.
INSERT INTO homelab.sync_history (run, origin, stream, host, started_at, ended_at, status, inserted, backlog)
    SELECT gen_random_uuid(), 'weekly', 'sync', 'pi', at, at + INTERVAL '9 seconds', 'ok', 4, 0
      FROM generate_series(now() - INTERVAL '85 days', now() - INTERVAL '4 days', INTERVAL '6 days') AS at
     UNION ALL
    SELECT gen_random_uuid(), 'removed', 'sync', 'nas', at, at + INTERVAL '9 seconds', 'ok', 4, 0
      FROM generate_series(now() - INTERVAL '80 days', now() - INTERVAL '40 days', INTERVAL '1 day') AS at;
-- A host that is gone for good, of which something needed somebody when it went.
INSERT INTO homelab.finding VALUES
    ('gone', 'gate.funnel', now() - INTERVAL '40 days', now() - INTERVAL '50 days', 'failed', '', 'no policy', ''),
    ('gone', 'spool', now() - INTERVAL '40 days', now() - INTERVAL '50 days', 'failed', '', 'full', '');
