-- name: lock
SELECT pg_advisory_xact_lock(%(gold)s::regclass::bigint)

-- name: subject_rows
SELECT count(*) FROM {subject} WHERE change_seq > %(after)s AND change_seq <= %(until)s

-- name: no_rows
SELECT 0

-- name: write_subject
INSERT INTO {gold} AS gold ({columns})
SELECT {source_columns}
FROM ({rows}) AS source
WHERE source.{subject_seq} > %(after)s AND source.{subject_seq} <= %(until)s
ORDER BY source.{subject_key}
ON CONFLICT ({subject_key}) DO UPDATE SET ({columns}, updated_at) = ROW({excluded_columns}, now())
WHERE (gold.{subject_seq}, gold.{lookup_seq}) IS DISTINCT FROM (excluded.{subject_seq}, excluded.{lookup_seq})
RETURNING gold.{subject_file} AS file_id, gold.{lookup_key} AS lookup_key, gold.{lookup_seq} AS lookup_seq, gold.xmax = 0 AS is_new

-- name: write_lookup
-- The subject's version must be the one that gold has: a newer one would carry the table's position past rows not done yet.
UPDATE {gold} AS gold SET ({columns}, updated_at) = ROW({source_columns}, now())
FROM {lookup} AS looked, ({rows}) AS source
WHERE looked.change_seq > %(after)s AND looked.change_seq <= %(until)s
    AND gold.{lookup_key} = looked.{lookup_key} COLLATE pg_catalog."default"
    AND gold.{lookup_seq} IS DISTINCT FROM looked.change_seq
    AND source.{subject_key} = gold.{subject_key} AND source.{subject_seq} = gold.{subject_seq}
RETURNING gold.{lookup_file} AS file_id, gold.{lookup_key} AS lookup_key, gold.{lookup_seq} AS lookup_seq, false AS is_new

-- name: count_written
WITH written AS ({write})
SELECT
    ({checked}) AS checked,
    count(*) FILTER (WHERE is_new) AS created,
    count(*) FILTER (WHERE NOT is_new) AS updated,
    count(*) FILTER (WHERE lookup_seq IS NOT NULL) AS matched,
    count(*) FILTER (WHERE lookup_key IS NOT NULL AND lookup_seq IS NULL) AS unmatched,
    count(*) FILTER (WHERE lookup_key IS NULL) AS no_lookup,
    coalesce((
        SELECT jsonb_agg(jsonb_build_array(file_id, created, updated))
        FROM (
            SELECT file_id, count(*) FILTER (WHERE is_new) AS created, count(*) FILTER (WHERE NOT is_new) AS updated
            FROM written GROUP BY file_id
        ) AS file
    ), '[]') AS files,
    coalesce((
        SELECT jsonb_agg(jsonb_build_array(lookup_key, rows))
        FROM (
            SELECT lookup_key, count(*) AS rows
            FROM written WHERE lookup_key IS NOT NULL AND lookup_seq IS NULL
            GROUP BY lookup_key ORDER BY count(*) DESC, lookup_key LIMIT %(top)s
        ) AS missing
    ), '[]') AS missing
FROM written

-- name: unmatched
SELECT
    count(*) AS rows,
    count({lookup_key}) AS naming_rows,
    count({lookup_key}) FILTER (WHERE {lookup_seq} IS NULL) AS unmatched_rows
FROM {gold}

-- name: missing
SELECT {lookup_key}, count(*)
FROM {gold}
WHERE {lookup_key} IS NOT NULL AND {lookup_seq} IS NULL
GROUP BY 1
ORDER BY 2 DESC, 1
LIMIT %(top)s
