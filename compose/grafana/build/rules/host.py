"""Rules about a host: processor, memory, network, filesystems, units, containers."""

from __future__ import annotations

from compose.grafana.build.alert import Rule
from compose.grafana.build.rules.asked import newest, over_time

HOST = "{{ .Labels.host }}"
MOUNT = "{{ .Labels.mount }}"
UNIT = "{{ .Labels.unit }}"
CONTAINER = "{{ .Labels.container }}"
FREE = "100 - newest.used_pct"

RULES = (
    Rule(
        name="cpu",
        title="The processor is busy",
        sql=over_time("cpu", "avg(busy_pct)", 15),
        over=90,
        during="15m",
        summary=f"{HOST}: the processor is more than 90 % busy",
        cause="For half an hour. What of: dashboards Host and Containers; by process: top.",
        repair="top -o %CPU; docker stats --no-stream",
        board="host",
        panel="CPU busy",
    ),
    Rule(
        name="load",
        title="More work than cores",
        sql=over_time("load", "avg(load5 / nullif(cores, 0))", 15),
        over=2,
        during="15m",
        summary=f"{HOST}: more than two tasks wait for each core",
        cause="They wait for the processor, or for disks (iowait).",
        repair="ps -eo state,pid,cmd | grep '^[RD]'",
        board="host",
        panel="Load per core",
    ),
    Rule(
        name="memory",
        title="Memory is nearly used up",
        sql=over_time("memory", "avg(used_pct)", 15),
        over=90,
        during="15m",
        summary=f"{HOST}: more than 90 % of memory is used",
        cause="The kernel will kill a program when there is none left.",
        repair="ps -eo rss,pid,cmd --sort=-rss | head; docker stats --no-stream",
        board="host",
        panel="Memory used",
    ),
    Rule(
        name="memory-pressure",
        title="Everything waits for memory",
        sql=over_time("pressure", "avg(full_pct)", 10, where="entity.key = 'memory'"),
        over=10,
        during="10m",
        summary=f"{HOST}: all tasks waited for memory for more than 10 % of the time",
        cause="Memory is too small for what runs: the host moves pages instead of working.",
        repair="ps -eo rss,pid,cmd --sort=-rss | head",
        board="host",
        panel="Tasks that waited (pressure)",
    ),
    Rule(
        name="page-faults",
        title="Pages are read from disk all the time",
        sql=over_time("memory", "avg(major_faults_per_s)", 10),
        over=500,
        during="15m",
        summary=f"{HOST}: more than 500 major page faults a second",
        cause="Programs' own pages were thrown out of memory and are read again.",
        repair="ps -eo maj_flt,pid,cmd --sort=-maj_flt | head",
        board="host",
        panel="Swap in and out",
    ),
    Rule(
        name="killed-for-memory",
        title="The kernel killed a program for want of memory",
        sql=over_time("memory", "max(oom_kills) - min(oom_kills)", 30),
        over=0,
        during="0s",
        summary=f"{HOST}: a program was killed for want of memory",
        cause="Within half an hour. What it was is in the kernel's log.",
        repair="journalctl -k -g 'Out of memory|oom-kill' -n 5",
        board="host",
        panel="Killed for want of memory",
    ),
    Rule(
        name="network-errors",
        title="An interface loses packets",
        sql=over_time("network", "avg(rx_errors_per_s + tx_errors_per_s)", 10, named="interface"),
        over=1,
        during="15m",
        summary=f"{HOST}: {{{{ .Labels.interface }}}} has errors",
        cause="More than one a second: a cable, a card, or the other side.",
        repair="ip -s link; ethtool -S INTERFACE | grep -i err",
        board="host",
        panel="Errors and drops",
    ),
    Rule(
        name="filesystem-low",
        title="A filesystem is nearly full",
        sql=newest("filesystem", FREE, named="mount", where="newest.read_only IS NOT TRUE"),
        under=5,
        during="15m",
        summary=f"{HOST}: less than 5 % of {MOUNT} is free",
        cause="Of what an ordinary user may fill. Which directory is large: du.",
        repair=f"du -xh --max-depth=2 {MOUNT} | sort -h | tail; docker system df",
        board="storage",
        panel="Filesystems",
    ),
    Rule(
        name="filesystem-full",
        title="A filesystem is full",
        sql=newest("filesystem", FREE, named="mount", where="newest.read_only IS NOT TRUE"),
        under=3,
        during="5m",
        severity="critical",
        summary=f"{HOST}: less than 3 % of {MOUNT} is free",
        cause="Databases stop, and what they were told is refused.",
        repair=f"du -xh --max-depth=2 {MOUNT} | sort -h | tail; docker system prune",
        board="storage",
        panel="Filesystems",
    ),
    Rule(
        name="filesystem-fills",
        title="A filesystem is full within days",
        sql=newest(
            "forecast", "newest.full_in_d", within="3 hours", named="mount", where="newest.full_in_d IS NOT NULL"
        ),
        under=7,
        during="3h",
        summary=f"{HOST}: {MOUNT} is full within a week",
        cause="As its last four weeks went; what comes and goes within a week is not counted.",
        repair=f"du -xh --max-depth=2 {MOUNT} | sort -h | tail",
        board="storage",
        panel="Full in",
    ),
    Rule(
        name="filesystem-fills-fast",
        title="A filesystem is full within hours",
        sql="""SELECT entity.host, entity.label AS mount,
       lately.available / nullif(-lately.growth * 3600, 0) AS value
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT regr_slope(available_bytes, extract(epoch FROM sample.time)) AS growth, min(available_bytes) AS available,
              count(*) AS rows
         FROM homelab.filesystem_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '1 hour') AS lately
 WHERE entity.family = 'filesystem' AND lately.growth < 0 AND lately.rows >= 20""",
        under=4,
        during="15m",
        severity="critical",
        summary=f"{HOST}: {MOUNT} is full within 4 hours",
        cause="As its last hour went: a download, a log or a dump that does not end.",
        repair=f"find {MOUNT} -xdev -mmin -60 -size +100M -exec ls -lh {{}} +",
        board="storage",
        panel="Free",
    ),
    Rule(
        name="inodes-low",
        title="A filesystem has few inodes left",
        sql=newest("filesystem", "100 - newest.inodes_used_pct", named="mount", where="newest.inodes > 0"),
        under=5,
        during="15m",
        summary=f"{HOST}: less than 5 % of the inodes of {MOUNT} are free",
        cause="It takes no more files then, however much is free: many small files.",
        repair=f"du -x --inodes --max-depth=3 {MOUNT} | sort -n | tail",
        board="storage",
        panel="Inodes used",
    ),
    Rule(
        name="filesystem-read-only",
        title="A filesystem became read-only",
        sql="""SELECT entity.host, entity.label AS mount,
       (lately.now_read_only AND lately.was_writable)::integer::double precision AS value
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT (array_agg(read_only ORDER BY sample.time DESC))[1] AS now_read_only, bool_or(NOT read_only)
            AS was_writable
         FROM homelab.filesystem_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '6 hours') AS lately
 WHERE entity.family = 'filesystem' AND lately.now_read_only IS NOT NULL""",
        over=0,
        during="0s",
        severity="critical",
        summary=f"{HOST}: {MOUNT} became read-only",
        cause="The kernel does so when a disk answers with errors.",
        repair="dmesg -T | grep -iE 'ext4|btrfs|xfs|i/o error' | tail; then back up what is there, and fsck",
        board="storage",
        panel="Filesystems",
    ),
    Rule(
        name="filesystem-silent",
        title="A filesystem does not answer",
        sql=newest("filesystem", "coalesce(newest.stuck_s, 0)", named="mount"),
        over=60,
        during="5m",
        summary=f"{HOST}: {MOUNT} does not answer",
        cause="A network share whose server is away. Programs that ask it stand still.",
        repair=f"umount -f -l {MOUNT}, or bring its server back",
        board="storage",
        panel="Filesystems",
    ),
    Rule(
        name="unit-failed",
        title="A unit has failed",
        sql="""SELECT entity.host, entity.key AS unit, coalesce(newest.failed,
       false)::integer::double precision AS value
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT * FROM homelab.unit_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '2 hours'
        ORDER BY sample.time DESC LIMIT 1) AS newest
 WHERE entity.family = 'unit'""",
        over=0,
        during="5m",
        summary=f"{HOST}: {UNIT} has failed",
        cause="systemd says why: systemctl status.",
        repair=f"systemctl status {UNIT}; journalctl -u {UNIT} -n 50; systemctl reset-failed {UNIT}",
        board="host",
        panel="Units that failed, or were started again",
    ),
    Rule(
        name="unit-restarts",
        title="A unit is started again and again",
        sql="""SELECT entity.host, entity.key AS unit, coalesce(lately.restarted, 0)::double precision AS value
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT sum(sample.restarted) AS restarted FROM homelab.unit_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '30 minutes') AS lately
 WHERE entity.family = 'unit'""",
        over=4,
        during="0s",
        summary=f"{HOST}: {UNIT} was started again more than four times in half an hour",
        cause="It ends, systemd starts it again, and it ends: a crash loop.",
        repair=f"journalctl -u {UNIT} -n 100",
        board="host",
        panel="Starts by systemd",
    ),
    Rule(
        name="container-restarts",
        title="A container begins anew again and again",
        sql=over_time("container", "sum(restarted)", 30, named="container"),
        over=3,
        during="0s",
        summary=f"{HOST}: {CONTAINER} has begun anew more than three times in half an hour",
        cause="It ends, and Docker starts it again.",
        repair="docker ps --all; docker logs --tail 50 CONTAINER",
        board="containers",
        panel="Began anew",
    ),
    Rule(
        name="container-memory",
        title="A container is at its limit of memory",
        sql=over_time("container", "avg(memory_pct)", 10, named="container"),
        over=95,
        during="10m",
        summary=f"{HOST}: {CONTAINER} uses more than 95 % of its limit of memory",
        cause="The kernel kills a process in it when there is none left. Raise the limit, or mend the leak.",
        repair="docker stats --no-stream; then mem_limit in its compose file",
        board="containers",
        panel="Memory, of its limit",
    ),
    Rule(
        name="probe-down",
        title="A service does not answer",
        sql="""SELECT entity.host, entity.label AS service, (NOT newest.up)::integer::double precision AS value
  FROM homelab.entity CROSS JOIN LATERAL (
       SELECT up FROM homelab.probe_sample AS sample
        WHERE sample.entity_id = entity.id AND sample.time > now() - INTERVAL '30 minutes' AND up IS NOT NULL
        ORDER BY sample.time DESC LIMIT 1) AS newest
 WHERE entity.family = 'probe'""",
        over=0,
        during="3m",
        summary=f"{HOST}: {{{{ .Labels.service }}}} does not answer",
        cause="Asked from that host, by [[metrics.probe]].",
        repair="homelab-agent doctor metrics",
        board="overview",
        panel="What is wrong, and what mends it",
    ),
    Rule(
        name="certificate",
        title="A certificate expires",
        sql=newest(
            "probe",
            "newest.certificate_s / 86400.0",
            within="1 hour",
            named="service",
            where="newest.certificate_s IS NOT NULL",
        ),
        under=7,
        during="1h",
        summary=f"{HOST}: the certificate of {{{{ .Labels.service }}}} expires within a week",
        cause="Whoever renews it has not.",
        repair="homelab-agent doctor metrics",
        board="overview",
        panel="What is wrong, and what mends it",
    ),
)
