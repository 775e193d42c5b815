-- Samples: one wide table per family, raw counters and rates side by side; bytes, seconds, degrees Celsius, _pct.
-- A rate is null where it is not known: the first reading, a counter that fell, a gap. Times are unique per host.
-- make_series (database/schema/0002_series.sql) cuts each table up by time, in the way of the edition.

CREATE TABLE cpu_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    user_s                  double precision,
    nice_s                  double precision,
    system_s                double precision,
    idle_s                  double precision,
    iowait_s                double precision,
    irq_s                   double precision,
    softirq_s               double precision,
    steal_s                 double precision,
    guest_s                 double precision,
    guest_nice_s            double precision,
    context_switches        bigint,
    forks                   bigint,
    interrupts              bigint,
    user_pct                real,
    nice_pct                real,
    system_pct              real,
    idle_pct                real,
    iowait_pct              real,
    irq_pct                 real,
    softirq_pct             real,
    steal_pct               real,
    guest_pct               real,
    guest_nice_pct          real,
    busy_pct                real, -- all but idle and iowait
    context_switches_per_s  real,
    forks_per_s             real,
    interrupts_per_s        real,
    runnable                integer,
    blocked                 integer,
    reset                   boolean, -- a counter fell: no rate is known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('cpu_sample', 'entity_id');
COMMENT ON TABLE cpu_sample IS 'The host''s CPU time per mode, and what else /proc/stat counts.';
CREATE VIEW cpu AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM cpu_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE cpu_core_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    user_s                  double precision,
    nice_s                  double precision,
    system_s                double precision,
    idle_s                  double precision,
    iowait_s                double precision,
    irq_s                   double precision,
    softirq_s               double precision,
    steal_s                 double precision,
    guest_s                 double precision,
    guest_nice_s            double precision,
    user_pct                real,
    nice_pct                real,
    system_pct              real,
    idle_pct                real,
    iowait_pct              real,
    irq_pct                 real,
    softirq_pct             real,
    steal_pct               real,
    guest_pct               real,
    guest_nice_pct          real,
    busy_pct                real, -- all but idle and iowait
    reset                   boolean, -- a counter fell: no rate is known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('cpu_core_sample', 'entity_id');
COMMENT ON TABLE cpu_core_sample IS 'CPU time per mode of each core; guest is also in user.';
CREATE VIEW cpu_core AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM cpu_core_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE memory_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    total_bytes             bigint,
    free_bytes              bigint,
    available_bytes         bigint,
    buffers_bytes           bigint,
    cached_bytes            bigint,
    shared_bytes            bigint,
    slab_bytes              bigint,
    dirty_bytes             bigint,
    writeback_bytes         bigint,
    swap_total_bytes        bigint,
    swap_free_bytes         bigint,
    swap_cached_bytes       bigint,
    used_bytes              bigint,
    swap_used_bytes         bigint,
    swap_in_bytes           bigint,
    swap_out_bytes          bigint,
    major_faults            bigint,
    oom_kills               bigint,
    used_pct                real,
    swap_used_pct           real,
    swap_in_bytes_per_s     real,
    swap_out_bytes_per_s    real,
    major_faults_per_s      real,
    reset                   boolean, -- a counter fell: no rate is known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('memory_sample', 'entity_id');
COMMENT ON TABLE memory_sample IS 'Memory and swap; used is total minus available.';
CREATE VIEW memory AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM memory_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE load_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    uptime_s                double precision,
    load1                   real,
    load5                   real,
    load15                  real,
    running                 integer,
    threads                 integer,
    cores                   integer,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('load_sample', 'entity_id');
COMMENT ON TABLE load_sample IS 'Load averages; threads that run and that there are.';
CREATE VIEW load AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM load_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE pressure_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    some_s                  double precision,
    full_s                  double precision,
    some_pct                real, -- of the time since the sample before
    full_pct                real,
    some_avg10_pct          real, -- the kernel's own average
    full_avg10_pct          real,
    reset                   boolean, -- a counter fell: no rate is known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('pressure_sample', 'entity_id');
COMMENT ON TABLE pressure_sample IS 'How long some or all tasks waited for CPU, memory and I/O (PSI).';
CREATE VIEW pressure AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM pressure_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE filesystem_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    size_bytes              bigint,
    used_bytes              bigint,
    free_bytes              bigint,
    available_bytes         bigint, -- for an ordinary user
    inodes                  bigint,
    inodes_free             bigint,
    used_pct                real, -- of what an ordinary user may fill, as df has it
    inodes_used_pct         real,
    stuck_s                 real, -- for how long it has not answered
    read_only               boolean,
    error                   boolean, -- it could not be asked
    device                  text,
    type                    text,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('filesystem_sample', 'entity_id');
COMMENT ON TABLE filesystem_sample IS 'How full each filesystem is; sizes are null while it does not answer.';
CREATE VIEW filesystem AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM filesystem_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE disk_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    reads                   bigint,
    reads_merged            bigint,
    read_bytes              bigint,
    writes                  bigint,
    writes_merged           bigint,
    written_bytes           bigint,
    read_s                  double precision,
    write_s                 double precision,
    busy_s                  double precision,
    weighted_s              double precision,
    reads_per_s             real,
    read_bytes_per_s        real,
    writes_per_s            real,
    written_bytes_per_s     real,
    read_await_s            real, -- mean time of a request; null when there was none
    write_await_s           real,
    busy_pct                real,
    queue                   real, -- mean length
    in_flight               integer,
    reset                   boolean, -- a counter fell: no rate is known
    device                  text, -- what the kernel calls it today
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('disk_sample', 'entity_id');
COMMENT ON TABLE disk_sample IS 'I/O of each disk.';
CREATE VIEW disk AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM disk_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE network_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    rx_bytes                bigint,
    rx_packets              bigint,
    rx_errors               bigint,
    rx_dropped              bigint,
    tx_bytes                bigint,
    tx_packets              bigint,
    tx_errors               bigint,
    tx_dropped              bigint,
    carrier_changes         bigint,
    speed_bytes_per_s       bigint,
    rx_bytes_per_s          real,
    rx_packets_per_s        real,
    rx_errors_per_s         real,
    rx_dropped_per_s        real,
    tx_bytes_per_s          real,
    tx_packets_per_s        real,
    tx_errors_per_s         real,
    tx_dropped_per_s        real,
    up                      boolean, -- it is set up
    carrier                 boolean, -- there is a link
    reset                   boolean, -- a counter fell: no rate is known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('network_sample', 'entity_id');
COMMENT ON TABLE network_sample IS 'Traffic and link of each interface.';
CREATE VIEW network AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM network_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE temperature_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    celsius                 real,
    high_celsius            real,
    critical_celsius        real,
    device                  text,
    input                   text, -- temp1, ...
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('temperature_sample', 'entity_id');
COMMENT ON TABLE temperature_sample IS 'Temperatures and the chips'' own limits.';
CREATE VIEW temperature AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM temperature_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE agent_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    rss_bytes               bigint,
    written_bytes           bigint, -- to disk, by this process
    state_written_bytes     bigint, -- of these, to state.db
    spool_rows              bigint,
    spool_bytes             bigint, -- on disk
    cpu_s                   double precision,
    cpu_pct                 real,
    written_bytes_per_s     real,
    late_ms                 real,
    collect_ms              real, -- of the sample before
    database_ms             real, -- for the shortest question; null while it is down
    threads                 integer,
    open_files              integer,
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('agent_sample', 'entity_id');
COMMENT ON TABLE agent_sample IS 'The agent itself.';
CREATE VIEW agent AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM agent_sample AS sample JOIN entity ON entity.id = sample.entity_id;

CREATE TABLE tick (
    host                    text NOT NULL,
    time                    timestamptz NOT NULL, -- of the sample's rows
    scheduled_at            timestamptz NOT NULL,
    started_at              timestamptz NOT NULL,
    late_ms                 real NOT NULL,
    total_ms                real NOT NULL,
    step_s                  real NOT NULL, -- how the wall clock was set since the tick before
    asleep_s                real NOT NULL, -- how long the host was suspended since then
    skipped                 integer NOT NULL, -- ticks missed since then
    moved_ms                integer NOT NULL, -- to a time not used before, after the clock was set back
    spooled                 boolean NOT NULL, -- rows waited on disk: PostgreSQL did not take them
    clock_synchronised      boolean NOT NULL,
    collectors              jsonb NOT NULL, -- {"cpu": ["ok", 0.2]}: status and milliseconds
    PRIMARY KEY (host, time)
);
SELECT make_series('tick', 'host');
COMMENT ON TABLE tick IS 'How each sample came about: tells "host off", "agent down", "suspended" and "late" apart.';
