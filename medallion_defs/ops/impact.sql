-- name: older_items
-- Which items lose against this one where both have a key (see the loader: the later fetch wins, then the greater id).
SELECT count(*) AS items, count(*) FILTER (WHERE is_same_dataset) AS same_dataset
FROM (
    SELECT older.dataset = item.dataset AS is_same_dataset
    FROM ops.file_ingestions AS item
    JOIN ops.file_ingestions AS older ON older.source_type = item.source_type AND older.file_id <> item.file_id
    WHERE item.file_id = %(file_id)s AND older.status = 'loaded'
        AND (older.bronze_ingest_end_time, older.file_id) < (item.bronze_ingest_end_time, item.file_id)
    LIMIT %(most)s
) AS older

-- name: older_revisions
SELECT older.file_id FROM ops.file_ingestions AS item
JOIN ops.file_ingestions AS older ON older.source_type = item.source_type AND older.external_id = item.external_id
WHERE item.file_id = %(file_id)s AND older.file_id <> item.file_id AND older.status = 'loaded'
    AND (older.bronze_ingest_end_time, older.file_id) < (item.bronze_ingest_end_time, item.file_id)
ORDER BY older.revision

-- name: newer_revisions
SELECT newer.bronze_path FROM ops.file_ingestions AS item
JOIN ops.file_ingestions AS newer ON newer.source_type = item.source_type AND newer.external_id = item.external_id
WHERE item.file_id = %(file_id)s AND newer.revision > item.revision
ORDER BY newer.revision
