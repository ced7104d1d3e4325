-- What is known of sources without reading their history: every lookup here is the range of an index, or a set that stays small.

-- name: source_facts
-- Waiting since: a pending item, since it was registered or requeued; a claimed one, since its claim or its start (what is loaded
-- again, in the microbatches of a backfill, is in silver and waits for nothing); one that has failed, since it was registered.
SELECT name AS source_type, arrived.created_at AS arrived_at, pending.items + claimed.items + retrying.items AS waiting,
    least(first.updated_at, claimed.since, retrying.since) AS waits_since, dead.items AS dead, refused.items AS refused
FROM unnest(%(sources)s::text[]) AS name
LEFT JOIN LATERAL (
    SELECT created_at FROM ops.file_ingestions
    WHERE source_type = name AND bronze_error IS NULL ORDER BY created_at DESC LIMIT 1
) AS arrived ON true
-- The one registered first stands for all pending ones: of a backlog of millions the ages would have to be read from the table.
LEFT JOIN LATERAL (
    SELECT updated_at FROM ops.file_ingestions
    WHERE source_type = name AND status = 'pending' AND bronze_can_promote ORDER BY created_at LIMIT 1
) AS first ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS items FROM ops.file_ingestions WHERE source_type = name AND status = 'pending'
) AS pending
CROSS JOIN LATERAL (
    SELECT count(*) AS items, min(updated_at) AS since FROM ops.file_ingestions
    WHERE source_type = name AND status = 'claimed' AND batch_id NOT LIKE '%%-backfill'
) AS claimed
CROSS JOIN LATERAL (
    SELECT count(*) AS items, min(created_at) AS since FROM ops.file_ingestions WHERE source_type = name AND status = 'retrying'
) AS retrying
CROSS JOIN LATERAL (
    SELECT count(*) AS items FROM ops.file_ingestions WHERE source_type = name AND status = 'dead'
) AS dead
CROSS JOIN LATERAL (
    SELECT count(*) AS items FROM ops.file_ingestions WHERE source_type = name AND status = 'refused'
) AS refused
ORDER BY name

-- name: save_verdict
INSERT INTO ops.verdicts (subject, findings, looked_at) VALUES (%(subject)s, %(findings)s, %(looked_at)s)
ON CONFLICT (subject) DO UPDATE SET findings = excluded.findings, looked_at = excluded.looked_at

-- name: delete_other_verdicts
-- Of a source or table that is no more.
DELETE FROM ops.verdicts WHERE subject LIKE %(layer)s::text || '/%%' AND subject <> ALL (%(subjects)s::text[])

-- name: read_verdicts
SELECT subject, findings, looked_at FROM ops.verdicts ORDER BY subject
