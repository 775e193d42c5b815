-- Who may log in, and with what; the agent's database, which is its own. Run at each start.
-- A statement with a password is never in the log: not when it fails, not when it is slow, not when all are logged.
SET log_min_error_statement = panic;
SET log_min_duration_statement = -1;
SET log_min_duration_sample = -1;
SET log_transaction_sample_rate = 0;
SET log_statement = none;
SET log_duration = off;
\set agent `cat /run/secrets/agent_database_password`
\set grafana `cat /run/secrets/grafana_database_password`

SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['homelab', 'grafana']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE homelab LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'agent';
ALTER ROLE grafana LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE CONNECTION LIMIT 20 PASSWORD :'grafana';

-- It only reads, not for long, and waits for nobody.
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
ALTER ROLE grafana SET lock_timeout = '5s';
ALTER ROLE grafana SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE grafana SET search_path = homelab, public;

SELECT 'CREATE DATABASE homelab OWNER homelab'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'homelab') \gexec
REVOKE ALL ON DATABASE homelab FROM PUBLIC;
GRANT CONNECT ON DATABASE homelab TO grafana;
