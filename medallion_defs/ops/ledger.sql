-- Every write of ops.file_ingestions. Rows travel as one JSON array (jsonb_populate_recordset gives them their column
-- types); {columns} is the list of columns, always from DatasetIngestion. Statuses are literals, not parameters:
-- only so can the planner use the partial indexes under a generic plan.

-- name: lock_registration
-- Two writers that register overlapping sets in different chunks would deadlock; one at a time per source.
SELECT pg_advisory_xact_lock(hashtextextended('medallion register ' || %(source_type)s, 0))

-- name: register_published
-- A file that was refused before and is published now is refused no more.
WITH new AS (
    INSERT INTO ops.file_ingestions AS row ({columns})
    SELECT {columns} FROM jsonb_populate_recordset(NULL::ops.file_ingestions, %(rows)s)
    ON CONFLICT DO NOTHING
    RETURNING row.file_id, row.source_type, row.external_id, row.bronze_ingest_end_time
), settled AS (
    DELETE FROM ops.file_ingestions AS refused USING new
    WHERE refused.source_type = new.source_type AND refused.external_id = new.external_id AND refused.revision = 0
      AND refused.status = 'refused' AND refused.bronze_ingest_end_time <= new.bronze_ingest_end_time
)
SELECT file_id FROM new

-- name: register_refused
INSERT INTO ops.file_ingestions AS row ({columns})
SELECT {columns} FROM jsonb_populate_recordset(NULL::ops.file_ingestions, %(rows)s)
ON CONFLICT (file_id) DO UPDATE SET
    run_id = excluded.run_id, bronze_error = excluded.bronze_error, bronze_filename = excluded.bronze_filename,
    bronze_ingest_end_time = excluded.bronze_ingest_end_time, updated_at = excluded.updated_at

-- name: register_removed
-- A row that is here is only marked: what the ledger knows of the item is more than its tombstone does.
INSERT INTO ops.file_ingestions AS row ({columns})
SELECT {columns} FROM jsonb_populate_recordset(NULL::ops.file_ingestions, %(rows)s)
ON CONFLICT (file_id) DO UPDATE SET
    bronze_can_promote = false, bronze_removed_at = excluded.bronze_removed_at, bronze_removed_by = excluded.bronze_removed_by,
    updated_at = excluded.updated_at
WHERE row.bronze_removed_at IS NULL

-- name: begun_removals
SELECT {columns} FROM ops.file_ingestions
WHERE bronze_removed_by IS NOT NULL AND bronze_removed_at IS NULL
ORDER BY source_type, file_id

-- name: open_runs
SELECT {columns} FROM ops.file_ingestions WHERE status = 'claimed' AND silver_run_id IS NOT NULL

-- name: retained
SELECT file_id, external_id, revision, bronze_path AS path, coalesce(bronze_bytes, 0) AS bytes, bronze_ingest_end_time AS fetched_at, status,
    silver_ingest_end_time AS loaded_at
FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND status NOT IN ('refused', 'removed') AND bronze_removed_by IS NULL

-- name: rows_of_subject
SELECT {columns} FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND external_id = ANY (%(external_ids)s)
ORDER BY revision

-- name: lock_subject
SELECT {columns} FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND external_id = %(external_id)s
ORDER BY file_id
FOR NO KEY UPDATE

-- name: delete_refusals
DELETE FROM ops.file_ingestions WHERE source_type = %(source_type)s AND external_id = %(external_id)s AND revision = 0
RETURNING {columns}

-- name: known_paths
-- A range of bronze_path (collation C; '0' follows '/'), answered by its index alone.
SELECT bronze_path FROM ops.file_ingestions WHERE bronze_path >= %(source_type)s::text || '/' AND bronze_path < %(source_type)s::text || '0'

-- name: unknown_paths
SELECT path FROM unnest(%(paths)s::text[]) AS path
WHERE NOT EXISTS (SELECT FROM ops.file_ingestions AS row WHERE row.bronze_path = path)

-- name: next_from_date
SELECT max(bronze_to_date) AS to_date FROM ops.file_ingestions WHERE source_type = %(source_type)s AND bronze_to_date IS NOT NULL

-- name: open_batches
SELECT batch_id, count(*) AS items, coalesce(sum(bronze_bytes), 0)::bigint AS bytes, max(silver_run_id) AS run_id, min(updated_at) AS since,
    max(attempts) AS attempts
FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND status = 'claimed'
GROUP BY batch_id
ORDER BY batch_id

-- name: try_lock_claim
-- Without it two ticks at once would each fill the room that both saw: no item twice, but too many batches in flight.
SELECT pg_try_advisory_xact_lock(hashtextextended('medallion claim ' || %(source_type)s, 0)) AS is_locked

-- name: lock_failed_by_others
-- Between the known versions, below and above them: each gap a range of the index of failed items.
SELECT {columns} FROM unnest(%(lows)s::text[], %(highs)s::text[]) AS gap (low, high)
JOIN ops.file_ingestions ON code_version > gap.low AND code_version < gap.high
WHERE source_type = %(source_type)s AND status IN ('dead', 'retrying')
LIMIT %(limit)s
FOR NO KEY UPDATE OF file_ingestions SKIP LOCKED

-- name: failed_versions
SELECT file_id, coalesce(bronze_filename, external_id), code_version FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND status IN ('dead', 'retrying') AND code_version = ANY (%(known)s)

-- name: lock_failed
SELECT {columns} FROM ops.file_ingestions
WHERE file_id = ANY (%(file_ids)s) AND status IN ('dead', 'retrying')
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_pending
SELECT {columns} FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND status = 'pending' AND bronze_can_promote
ORDER BY created_at, file_id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_due
SELECT {columns} FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND status = 'retrying' AND retry_at <= %(at)s AND bronze_can_promote
ORDER BY created_at, file_id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_done
-- Loaded or failed before %(before)s. What gets claimed has no end time, so a chunk leaves this selection as it is taken.
SELECT {columns} FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND silver_ingest_end_time < %(before)s AND bronze_can_promote
  AND (%(since)s::timestamptz IS NULL OR bronze_ingest_end_time >= %(since)s)
  AND (%(file_ids)s::uuid[] IS NULL OR file_id = ANY (%(file_ids)s))
  AND (%(dataset_like)s::text IS NULL OR dataset LIKE %(dataset_like)s)
  AND (%(versions)s::text[] IS NULL
       OR code_version IS DISTINCT FROM ops.present_version(coalesce(bronze_filename, external_id), %(patterns)s, %(versions)s))
ORDER BY silver_ingest_end_time, file_id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: count_done
-- bronze_rows survives a failed attempt: what the last reading that came through counted.
SELECT count(*) AS items, coalesce(sum(bronze_bytes), 0)::bigint AS bytes, coalesce(sum(bronze_rows), 0)::bigint AS rows,
    count(*) FILTER (WHERE bronze_rows IS NULL) AS uncounted_items
FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND silver_ingest_end_time < %(before)s AND bronze_can_promote
  AND (%(since)s::timestamptz IS NULL OR bronze_ingest_end_time >= %(since)s)
  AND (%(file_ids)s::uuid[] IS NULL OR file_id = ANY (%(file_ids)s))
  AND (%(dataset_like)s::text IS NULL OR dataset LIKE %(dataset_like)s)
  AND (%(versions)s::text[] IS NULL
       OR code_version IS DISTINCT FROM ops.present_version(coalesce(bronze_filename, external_id), %(patterns)s, %(versions)s))

-- name: lock_rows
-- In the order of the key: two writers of overlapping sets wait for each other instead of deadlocking.
SELECT {columns} FROM ops.file_ingestions WHERE file_id = ANY (%(file_ids)s) ORDER BY file_id FOR NO KEY UPDATE

-- name: lock_batch_rows
SELECT {columns} FROM ops.file_ingestions WHERE batch_id = %(batch_id)s AND status = 'claimed' ORDER BY file_id FOR NO KEY UPDATE

-- name: batch_rows
SELECT {columns} FROM ops.file_ingestions WHERE batch_id = %(batch_id)s AND status = 'claimed' ORDER BY file_id

-- name: try_lock_batch
-- Held by the session, beyond the commit, until it is given back or the worker's connection ends, however it ends.
SELECT pg_try_advisory_lock(hashtextextended('medallion batch ' || %(batch_id)s, 0)) AS is_locked

-- name: unlock_batch
SELECT pg_advisory_unlock(hashtextextended('medallion batch ' || %(batch_id)s, 0))

-- name: probe_batch
-- The same lock, for this transaction only: free means that no worker lives that works on the batch.
SELECT pg_try_advisory_xact_lock(hashtextextended('medallion batch ' || %(batch_id)s, 0)) AS is_locked

-- name: write_rows
UPDATE ops.file_ingestions AS row SET ({columns}) = ROW({new_columns})
FROM jsonb_populate_recordset(NULL::ops.file_ingestions, %(rows)s) AS new
WHERE row.file_id = new.file_id

-- name: count_by_status
SELECT source_type, status, count(*) AS items, coalesce(sum(bronze_bytes) FILTER (WHERE status <> 'removed'), 0)::bigint AS bytes
FROM ops.file_ingestions GROUP BY source_type, status ORDER BY source_type, status

-- name: list_rows
SELECT {columns} FROM ops.file_ingestions
WHERE (%(source_type)s::text IS NULL OR source_type = %(source_type)s)
  AND (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
  AND (%(external_id_like)s::text IS NULL OR external_id LIKE %(external_id_like)s)
  AND (%(file_ids)s::uuid[] IS NULL OR file_id = ANY (%(file_ids)s))
  AND (%(bronze_path)s::text IS NULL OR bronze_path = %(bronze_path)s)
  AND (%(batch_id)s::text IS NULL OR batch_id = %(batch_id)s)
  AND (%(run_id)s::text IS NULL OR run_id = %(run_id)s OR silver_run_id = %(run_id)s OR gold_run_id = %(run_id)s)
  AND (%(after_at)s::timestamptz IS NULL OR (created_at, file_id) > (%(after_at)s, %(after_id)s::uuid))
ORDER BY created_at, file_id
LIMIT %(limit)s
