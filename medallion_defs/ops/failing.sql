-- What of a source waits for a person or for its next attempt, by the partial index of open items. Statuses are literals, so that the
-- planner can use it.

-- name: failing_items
SELECT item.file_id, item.external_id, item.bronze_path, item.status, item.attempts, item.retry_at,
    coalesce(item.bronze_error, item.silver_errors ->> 'message', '') AS reason
FROM (
    (SELECT * FROM ops.file_ingestions WHERE source_type = %(source_type)s AND status = 'dead' ORDER BY created_at, file_id LIMIT %(limit)s)
    UNION ALL
    (SELECT * FROM ops.file_ingestions WHERE source_type = %(source_type)s AND status = 'refused' ORDER BY created_at, file_id LIMIT %(limit)s)
    UNION ALL
    (SELECT * FROM ops.file_ingestions WHERE source_type = %(source_type)s AND status = 'retrying' ORDER BY created_at, file_id LIMIT %(limit)s)
) AS item

-- name: count_failing
SELECT
    (SELECT count(*) FROM ops.file_ingestions WHERE source_type = %(source_type)s AND status = 'dead') AS dead,
    (SELECT count(*) FROM ops.file_ingestions WHERE source_type = %(source_type)s AND status = 'refused') AS refused,
    (SELECT count(*) FROM ops.file_ingestions WHERE source_type = %(source_type)s AND status = 'retrying') AS retrying
