-- name: lock_asked
SELECT state FROM silver.tasks_batches WHERE batch_id = %(batch_id)s FOR UPDATE

-- name: finish_asked
-- A batch of tasks may have become several at the provider: it goes on when the last of them is read or given up. What has no
-- outcome then was never sent, and is asked anew.
UPDATE silver.tasks_batches AS batch SET
    updated_at = now(),
    state = CASE WHEN EXISTS (
        SELECT task_id FROM silver.tasks_todo WHERE batch_id = %(batch_id)s AND status = 'batched'
        EXCEPT
        SELECT task_id FROM silver.tasks_status
        WHERE batch_id = %(batch_id)s AND event IN ('succeeded', 'failed', 'withdrawn')
    ) THEN 'open' ELSE 'processed' END
WHERE batch_id = %(batch_id)s AND state = 'asked' AND NOT EXISTS (
    SELECT FROM ops.active_batches
    WHERE tasks_batch_id = batch.batch_id AND status IN ('reserved', 'submitting', 'active', 'ended', 'held', 'collected'))

-- name: reopen
-- Answers that are read once more: of tasks that have no result, or have the one that these answers gave.
WITH batch AS (
    INSERT INTO silver.tasks_batches (task_key, prompt_id, items, bytes, state)
    VALUES (%(task_key)s, %(prompt_id)s, %(items)s, 0, 'processed')
    RETURNING batch_id
)
UPDATE silver.tasks_todo AS todo SET
    status = 'batched', batch_id = batch.batch_id, retry_at = NULL, error_type = NULL, error_message = NULL, updated_at = now()
FROM batch
WHERE todo.task_id = ANY (%(task_ids)s)
  AND (todo.status IN ('pending', 'retrying', 'dead') OR todo.status = 'succeeded' AND todo.batch_id = %(tasks_batch_id)s)
RETURNING todo.task_id, todo.batch_id

-- name: read_template
SELECT content FROM silver.tasks_prompts WHERE prompt_id = %(prompt_id)s

-- name: read_paths
SELECT external_id, bronze_path FROM ops.file_ingestions
WHERE source_type IN ('gemini_batch', 'gemini_online') AND bronze_path IS NOT NULL AND bronze_removed_at IS NULL
  AND external_id = ANY (%(batch_ids)s)
