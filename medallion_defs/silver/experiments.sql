-- Variants beside silver: their tables, what to load into them, and what was loaded.
--
-- {rows} and {rejects} are the tables of one variant, {silver} and {silver_rejects} those that they are made like.
-- In ops.file_ingestions nothing is written.

-- name: try_lock
-- Held by the session: free again when the worker's connection ends, however it ends.
SELECT pg_try_advisory_lock(hashtextextended('medallion variant ' || %(name)s, 0))

-- name: create_rows
CREATE TABLE IF NOT EXISTS {rows} (LIKE {silver} INCLUDING ALL)

-- name: create_rejects
CREATE TABLE IF NOT EXISTS {rejects} (LIKE {silver_rejects} INCLUDING ALL)

-- name: other_columns
-- Columns that one of the two tables has, and the other has not, or not so.
WITH sides AS (
    SELECT attrelid, attname, atttypid, attnotnull, attnum FROM pg_catalog.pg_attribute
    WHERE attrelid IN (%(rows)s::regclass, %(silver)s::regclass) AND attnum > 0 AND NOT attisdropped
)
SELECT DISTINCT attname::text FROM sides AS one
WHERE NOT EXISTS (
    SELECT FROM sides AS other
    WHERE other.attrelid <> one.attrelid
      AND (other.attname, other.atttypid, other.attnotnull) = (one.attname, one.atttypid, one.attnotnull)
)
ORDER BY 1

-- name: is_stale
-- Made by other code, or of an item that must not be used any more: nothing of it can be told apart from what would be right.
SELECT EXISTS (
    SELECT FROM silver_experiments.variant_loads AS load
    LEFT JOIN ops.file_ingestions AS item USING (file_id)
    WHERE load.source_type = %(source_type)s AND load.variant = %(variant)s
      AND (load.code_version <> %(code_version)s OR item.bronze_can_promote IS NOT TRUE)
)

-- name: empty_rows
-- Not TRUNCATE, which would wait for the end of every comparison, and of every psql that somebody forgot.
DELETE FROM {rows}

-- name: empty_rejects
DELETE FROM {rejects}

-- name: forget_loads
DELETE FROM silver_experiments.variant_loads WHERE source_type = %(source_type)s AND variant = %(variant)s

-- name: limit_wait
SELECT set_config('lock_timeout', '10s', true)

-- name: drop_tables
DROP TABLE IF EXISTS {rows}, {rejects}

-- name: analyze_rows
ANALYZE {rows}

-- name: find_table
SELECT to_regclass(%(rows)s) IS NOT NULL

-- name: next_items
-- In the order of the key, which an item that fails again and again cannot hold up. Whether silver has the item does not matter.
SELECT {columns} FROM ops.file_ingestions AS item
WHERE source_type = %(source_type)s AND bronze_path IS NOT NULL AND bronze_can_promote AND file_id > %(after)s
  AND (%(since)s::timestamptz IS NULL OR bronze_ingest_end_time >= %(since)s)
  AND (%(file_ids)s::uuid[] IS NULL OR file_id = ANY (%(file_ids)s))
  AND (%(dataset_like)s::text IS NULL OR dataset LIKE %(dataset_like)s)
  AND NOT EXISTS (
      SELECT FROM silver_experiments.variant_loads AS load
      WHERE load.source_type = %(source_type)s AND load.variant = %(variant)s AND load.file_id = item.file_id AND load.error IS NULL
  )
ORDER BY file_id
LIMIT %(limit)s

-- name: save_load
INSERT INTO silver_experiments.variant_loads AS load (
    source_type, variant, file_id, run_id, code_version,
    rows_read, rows_created, rows_updated, rows_unchanged, rows_duplicate, rows_rejected, error
)
VALUES (
    %(source_type)s, %(variant)s, %(file_id)s, %(run_id)s, %(code_version)s,
    %(read)s, %(created)s, %(updated)s, %(unchanged)s, %(duplicate)s, %(rejected)s, %(error)s
)
ON CONFLICT (source_type, variant, file_id) DO UPDATE SET
    run_id = excluded.run_id, code_version = excluded.code_version, rows_read = excluded.rows_read, rows_created = excluded.rows_created,
    rows_updated = excluded.rows_updated, rows_unchanged = excluded.rows_unchanged, rows_duplicate = excluded.rows_duplicate,
    rows_rejected = excluded.rows_rejected, error = excluded.error, loaded_at = now()

-- name: loaded_variants
SELECT source_type, variant, count(*) FILTER (WHERE error IS NULL) AS items, count(error) AS failed, sum(rows_read)::bigint AS rows_read,
    min(code_version) AS code_version, max(loaded_at) AS loaded_at
FROM silver_experiments.variant_loads
GROUP BY source_type, variant
ORDER BY source_type, variant
