-- What only a superuser can make in the agent's database, and what Grafana may read there. Run at each start.
SELECT format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA public', name) FROM pg_available_extensions
 WHERE name = 'postgis' OR name = 'timescaledb' AND current_setting('shared_preload_libraries') LIKE '%timescaledb%' \gexec

ALTER DEFAULT PRIVILEGES FOR ROLE homelab GRANT USAGE ON SCHEMAS TO grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE homelab GRANT SELECT ON TABLES TO grafana;
-- What a restored or moved database has brought along has come with other rights.
SELECT format('GRANT USAGE ON SCHEMA %1$I TO grafana', nspname), format('GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO grafana', nspname)
  FROM pg_namespace WHERE nspname = 'homelab' \gexec
