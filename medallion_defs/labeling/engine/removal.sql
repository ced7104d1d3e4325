-- name: open_batches
SELECT DISTINCT batch.batch_id
FROM silver.tasks_todo AS todo
JOIN ops.batch_record_keys AS record USING (task_id)
JOIN ops.active_batches AS batch ON batch.batch_id = record.batch_id
WHERE todo.file_id = ANY (%(file_ids)s) AND batch.status IN ('reserved', 'submitting', 'active', 'ended', 'held', 'collected')
ORDER BY batch.batch_id

-- name: exchanges
SELECT DISTINCT item.source_type, item.external_id
FROM silver.tasks_todo AS todo
JOIN ops.batch_record_keys AS record USING (task_id)
JOIN ops.file_ingestions AS item ON item.external_id = record.batch_id AND item.source_type IN ('gemini_batch', 'gemini_online')
WHERE todo.file_id = ANY (%(file_ids)s)
ORDER BY 1, 2

-- name: delete_failures
DELETE FROM ops.failure_logs AS failure
USING silver.tasks_todo AS todo, ops.batch_record_keys AS record
WHERE todo.file_id = ANY (%(file_ids)s) AND record.task_id = todo.task_id
    AND failure.batch_id = record.batch_id AND (failure.record_key = record.record_key OR failure.error_type = 'UnreadableLine')
