-- name: scope_all
SELECT subject.{subject_key} FROM {subject} AS subject

-- name: scope_since
SELECT subject.{subject_key}
FROM {subject} AS subject
LEFT JOIN {lookup} AS looked ON looked.{lookup_key} = subject.{lookup_key}
WHERE subject.bronze_at >= %(since)s OR looked.bronze_at >= %(since)s

-- name: scope_file_ids
SELECT subject.{subject_key} FROM {subject} AS subject WHERE subject.file_id = ANY(%(file_ids)s)
UNION
SELECT subject.{subject_key}
FROM {subject} AS subject
JOIN {lookup} AS looked ON looked.{lookup_key} = subject.{lookup_key}
WHERE looked.file_id = ANY(%(file_ids)s)

-- name: scope_dataset
WITH item AS MATERIALIZED (SELECT file_id FROM ops.file_ingestions WHERE dataset LIKE %(dataset_like)s)
SELECT subject.{subject_key} FROM {subject} AS subject JOIN item USING (file_id)
UNION
SELECT subject.{subject_key}
FROM {subject} AS subject
JOIN {lookup} AS looked ON looked.{lookup_key} = subject.{lookup_key}
JOIN item ON item.file_id = looked.file_id

-- name: scope_extent
-- Each subject row in scope once, and the items that those rows are made of now.
WITH row AS MATERIALIZED (
    SELECT file_id, count(*) AS rows FROM {subject} AS subject WHERE subject.{subject_key} IN ({scope}) GROUP BY file_id
)
SELECT count(*) AS items, coalesce(sum(item.bronze_bytes), 0)::bigint AS bytes, coalesce(sum(row.rows), 0)::bigint AS rows
FROM row LEFT JOIN ops.file_ingestions AS item USING (file_id)

-- name: last_key
SELECT count(*), max({subject_key})
FROM (
    SELECT {subject_key} FROM ({scope}) AS scope
    WHERE %(after)s::text IS NULL OR {subject_key} > %(after)s::text
    ORDER BY {subject_key}
    LIMIT %(max_rows)s
) AS chunk

-- name: checked
SELECT count(*) FROM ({scope}) AS scope
WHERE (%(after)s::text IS NULL OR {subject_key} > %(after)s::text)
    AND (%(until)s::text IS NULL OR {subject_key} <= %(until)s::text)

-- name: write_different
-- Compared whole, so a value that somebody changed by hand, or that an older enrich.sql computed, is found as well. Only what
-- differs reaches the upsert: ON CONFLICT would lock, and so write, every row that is right.
INSERT INTO {gold} AS gold ({columns})
SELECT {source_columns}
FROM ({rows}) AS source
LEFT JOIN {gold} AS present ON present.{subject_key} = source.{subject_key}
WHERE source.{subject_seq} <= %(position)s
    AND (%(after)s::text IS NULL OR source.{subject_key} > %(after)s::text)
    AND (%(until)s::text IS NULL OR source.{subject_key} <= %(until)s::text)
    AND source.{subject_key} IN ({scope})
    AND ROW({present_columns}) IS DISTINCT FROM ROW({source_columns})
ORDER BY source.{subject_key}
ON CONFLICT ({subject_key}) DO UPDATE SET ({columns}, updated_at) = ROW({excluded_columns}, now())
RETURNING gold.{subject_file} AS file_id, gold.{lookup_key} AS lookup_key, gold.{lookup_seq} AS lookup_seq, gold.xmax = 0 AS is_new

-- name: delete_orphans
DELETE FROM {gold} AS gold
WHERE (%(after)s::text IS NULL OR gold.{subject_key} > %(after)s::text)
    AND (%(until)s::text IS NULL OR gold.{subject_key} <= %(until)s::text)
    AND NOT EXISTS (SELECT FROM {subject} AS subject WHERE subject.{subject_key} = gold.{subject_key})
