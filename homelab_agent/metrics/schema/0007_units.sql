-- Units of systemd. There is a row when something has changed, and one a quarter of an hour after the last (or after
-- metrics.slow_interval, where that is longer): between two rows it stood as the first says, and where the next is later
-- than that, nobody looked.

CREATE TABLE unit_sample (
    entity_id               bigint NOT NULL,
    time                    timestamptz NOT NULL,
    since                   timestamptz, -- when it came to stand so; a restart by hand changes nothing but this
    restarts                bigint, -- by systemd itself, since somebody last started the service
    restarted               integer, -- of these, since the look before; null where that is not known
    state                   text, -- active, inactive, failed, activating, ...; unloaded: systemd has forgotten it
    substate                text, -- running, exited, waiting, mounted, auto-restart, ...
    result                  text, -- why it failed: exit-code, signal, timeout, oom-kill, ...
    type                    text, -- of a service: simple, notify, oneshot, ...; of a mount: ext4, ...
    active                  boolean,
    failed                  boolean,
    reset                   boolean, -- a counter fell: how much it grew is not known
    PRIMARY KEY (entity_id, time)
);
SELECT make_series('unit_sample', 'entity_id');
COMMENT ON TABLE unit_sample IS 'How units of systemd stand; a row when one changes, and one now and then.';
CREATE VIEW unit AS
    SELECT entity.host, entity.key, entity.label, sample.*
      FROM unit_sample AS sample JOIN entity ON entity.id = sample.entity_id;
