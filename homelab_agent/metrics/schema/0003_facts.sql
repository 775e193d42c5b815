-- What a host is, with the date of each change: system, kernel, firmware, disks, interfaces, mounts (metrics/facts.py).

CREATE TABLE fact (
    host    text NOT NULL,
    name    text NOT NULL, -- os, kernel, machine, firmware, disk, network, mount
    key     text NOT NULL, -- which disk, interface or mount; empty for the host as a whole
    since   timestamptz NOT NULL, -- when it was first seen to be so
    value   text, -- null: it is gone
    was     text, -- null: it was not there, or not known
    PRIMARY KEY (host, name, key, since)
);
COMMENT ON TABLE fact IS 'What a host is made of; a row when that is first seen, and when it changes.';

-- The five columns, and the payload's keys, of a table `system_metrics` that was written before there was an agent: for
-- dashboards that read one. Bytes, per cent, degrees Celsius. `time` is not cut to the second, which it is on anyway
-- but for a sample that had to give way: the planner could then leave out no partition.
CREATE VIEW system_metrics AS
    WITH part AS (
        SELECT sample.time, entity.host, 'cpu' AS metric_type,
               jsonb_build_object('usage', sample.busy_pct)
                   || jsonb_strip_nulls(jsonb_build_object('package_temp', warm.package, 'core_temps', warm.cores))
                   AS payload
          FROM cpu_sample AS sample
          JOIN entity ON entity.id = sample.entity_id
          LEFT JOIN LATERAL (
               SELECT max(celsius)
                          FILTER (WHERE sensor.label ~ '^(coretemp Package|k10temp T|zenpower T|cpu_thermal )') AS package,
                      jsonb_object_agg('core_' || split_part(sensor.label, ' ', 3), celsius)
                          FILTER (WHERE sensor.label LIKE 'coretemp Core %') AS cores
                 FROM entity AS sensor
                 JOIN temperature_sample AS heat ON heat.entity_id = sensor.id AND heat.time = sample.time
                WHERE sensor.family = 'temperature' AND sensor.host = entity.host) AS warm ON true
        UNION ALL
        SELECT sample.time, entity.host, 'memory',
               jsonb_build_object('total', total_bytes, 'available', available_bytes, 'used', used_bytes,
                                  'used_percent', used_pct)
          FROM memory_sample AS sample JOIN entity ON entity.id = sample.entity_id
        UNION ALL
        SELECT sample.time, entity.host, 'disk',
               jsonb_object_agg(entity.label, jsonb_build_object(
                   'total', size_bytes, 'used', used_bytes, 'free', available_bytes, 'used_percent', used_pct))
          FROM filesystem_sample AS sample JOIN entity ON entity.id = sample.entity_id
         GROUP BY sample.time, entity.host
        UNION ALL
        SELECT sample.time, entity.host, 'network',
               jsonb_object_agg(entity.label, jsonb_build_object('rx_bytes', rx_bytes, 'tx_bytes', tx_bytes))
          FROM network_sample AS sample JOIN entity ON entity.id = sample.entity_id
         GROUP BY sample.time, entity.host
    )
    SELECT part.time, part.host,
           (SELECT fact.value FROM fact
             WHERE fact.host = part.host AND fact.name = 'os' AND fact.key = ''
             ORDER BY (fact.since <= part.time) DESC, abs(extract(epoch FROM fact.since - part.time)) LIMIT 1) AS os,
           part.metric_type, part.payload
      FROM part;
