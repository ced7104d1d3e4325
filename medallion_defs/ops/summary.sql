-- What runs did, read from the ledger. {stages} is the block of that name, {which} one of the item_… blocks, {runs} the block runs.

-- name: item_any
true

-- name: item_of_run
-- Three indexes, one scan.
item.run_id = %(run_id)s OR item.silver_run_id = %(run_id)s OR item.gold_run_id = %(run_id)s

-- name: stages
-- One row per item and layer that worked on it. An item whose silver run never reached it has failed in silver without a run.
SELECT item.file_id, item.source_type, item.dataset, item.external_id, item.revision, item.bronze_path, item.content_sha256,
    item.bronze_bytes, item.code_version, item.status, item.attempts, item.created_at, stage.*
FROM ops.file_ingestions AS item
CROSS JOIN LATERAL (VALUES
    (
        -- The bronze end time is the item's fetch time, by which rows win, and is the run's start to the microsecond: the fetch has
        -- ended when the item is registered. An item that discovery registered, perhaps days later, has no start and took no time.
        'bronze', item.run_id, NULL, coalesce(item.bronze_ingest_start_time, item.bronze_ingest_end_time),
        CASE WHEN item.bronze_ingest_start_time IS NULL THEN item.bronze_ingest_end_time ELSE item.created_at END,
        CASE WHEN item.bronze_error IS NOT NULL THEN jsonb_build_object('error_type', 'Refused', 'message', item.bronze_error) END,
        NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint
    ), (
        'silver', item.silver_run_id, coalesce(item.silver_tablename, 'silver.' || item.source_type),
        item.silver_ingest_start_time, item.silver_ingest_end_time, item.silver_errors,
        item.silver_rows_read, item.silver_rows_created, item.silver_rows_updated, item.silver_rows_unchanged,
        item.silver_rows_duplicate, item.silver_rows_rejected
    ), (
        'gold', item.gold_run_id, item.gold_tablename, item.gold_ingest_start_time, item.gold_ingest_end_time, item.gold_errors,
        NULL, item.gold_rows_created, item.gold_rows_updated, NULL, NULL, NULL
    )
) AS stage (
    layer, run_id, tablename, started_at, ended_at, error,
    rows_read, rows_created, rows_updated, rows_unchanged, rows_duplicate, rows_rejected
)
WHERE ({which}) AND (stage.run_id IS NOT NULL OR stage.ended_at IS NOT NULL)

-- name: counts
min(started_at) AS started_at, CASE WHEN bool_and(ended_at IS NOT NULL) THEN max(ended_at) END AS ended_at,
CASE WHEN bool_and(ended_at IS NOT NULL) THEN extract(epoch FROM max(ended_at) - min(started_at))::float8 END AS seconds,
count(*) AS items, count(*) FILTER (WHERE error IS NOT NULL) AS items_failed, count(*) FILTER (WHERE ended_at IS NULL) AS items_open,
coalesce(sum(bronze_bytes), 0)::bigint AS bytes, sum(rows_read) FILTER (WHERE error IS NULL)::bigint AS rows_read, sum(rows_created)::bigint AS rows_created,
sum(rows_updated)::bigint AS rows_updated, sum(rows_unchanged)::bigint AS rows_unchanged,
sum(rows_duplicate)::bigint AS rows_duplicate, sum(rows_rejected) FILTER (WHERE error IS NULL)::bigint AS rows_rejected

-- name: runs
SELECT run_id, layer, array_agg(DISTINCT source_type ORDER BY source_type) AS source_types,
    array_remove(array_agg(DISTINCT tablename ORDER BY tablename), NULL) AS tables,
    CASE
        WHEN bool_or(ended_at IS NULL) THEN 'open'
        WHEN bool_and(error IS NOT NULL) THEN 'failed'
        WHEN bool_or(error IS NOT NULL) THEN 'partial'
        ELSE 'done'
    END AS status,
    {counts}
FROM ({stages}) AS stage
WHERE run_id IS NOT NULL
GROUP BY run_id, layer

-- name: list_runs
SELECT * FROM ({runs}) AS run
WHERE (%(since)s::timestamptz IS NULL OR started_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR started_at < %(until)s)
  AND (%(source_type)s::text IS NULL OR %(source_type)s = ANY (source_types))
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(after_at)s::timestamptz IS NULL OR (started_at, run_id, layer) < (%(after_at)s, %(after_run)s::text, %(after_layer)s::text))
ORDER BY started_at DESC, run_id DESC, layer DESC
LIMIT %(limit)s

-- name: lines_of_run
SELECT * FROM ({runs}) AS run WHERE run_id = %(run_id)s ORDER BY started_at, layer

-- name: stages_of_run
SELECT layer, {counts} FROM ({stages}) AS stage GROUP BY layer ORDER BY array_position(ARRAY['bronze', 'silver', 'gold'], layer)

-- name: errors_of_run
SELECT layer, run_id, file_id, source_type, coalesce(bronze_path, external_id) AS item, status, attempts,
    error ->> 'error_type' AS error_type, error ->> 'message' AS message
FROM ({stages}) AS stage
WHERE error IS NOT NULL
ORDER BY ended_at, file_id
LIMIT %(limit)s

-- name: manifest_runs
SELECT layer, array_agg(DISTINCT tablename ORDER BY tablename) AS tables, {counts}
FROM ({stages}) AS stage
WHERE run_id = %(run_id)s AND layer <> 'bronze' AND (%(table)s::text IS NULL OR tablename = %(table)s)
GROUP BY layer
ORDER BY layer DESC

-- name: manifest_files
SELECT file_id, source_type, dataset, external_id, revision, bronze_path, content_sha256, bronze_bytes AS bytes, code_version, status,
    attempts, error, rows_read, rows_created, rows_updated, rows_unchanged, rows_duplicate, rows_rejected
FROM ({stages}) AS stage
WHERE run_id = %(run_id)s AND layer = %(layer)s AND (%(table)s::text IS NULL OR tablename = %(table)s)
ORDER BY error IS NULL, created_at, file_id
LIMIT %(limit)s

-- name: manifest_code_versions
SELECT DISTINCT code_version
FROM ({stages}) AS stage
WHERE run_id = %(run_id)s AND layer = %(layer)s AND (%(table)s::text IS NULL OR tablename = %(table)s) AND code_version IS NOT NULL
ORDER BY 1

-- name: manifest_flags
SELECT flag.key, sum(flag.value::bigint)::bigint
FROM ops.file_ingestions AS item
CROSS JOIN LATERAL jsonb_each_text(item.silver_quality_flags) AS flag
WHERE item.silver_run_id = %(run_id)s
  AND (%(table)s::text IS NULL OR coalesce(item.silver_tablename, 'silver.' || item.source_type) = %(table)s)
GROUP BY flag.key
ORDER BY 2 DESC, 1

-- name: manifest_rejects
SELECT reject.error_code, count(*)
FROM ops.file_ingestions AS item
JOIN silver.rejected_rows AS reject USING (file_id)
WHERE item.silver_run_id = %(run_id)s
  AND (%(table)s::text IS NULL OR coalesce(item.silver_tablename, 'silver.' || item.source_type) = %(table)s)
GROUP BY reject.error_code
ORDER BY 2 DESC, 1
