-- name: lock_compaction
-- One at a time: parts must come in the order of the batches, so that the last event of a task is the last that is folded in.
SELECT pg_try_advisory_xact_lock(hashtextextended('medallion compact tasks_status', 0))

-- name: compact
-- A batch goes together with its events, so what is left of tasks_batches is what is left to compact.
WITH old AS (
    DELETE FROM silver.tasks_batches
    WHERE batch_id IN (
        SELECT batch_id FROM silver.tasks_batches
        WHERE state = 'done' AND updated_at < %(before)s ORDER BY batch_id LIMIT %(limit)s
    )
    RETURNING batch_id
), gone AS (
    DELETE FROM silver.tasks_status AS event USING old WHERE event.batch_id = old.batch_id
    RETURNING event.*
), latest AS (
    SELECT DISTINCT ON (task_id) * FROM gone WHERE event <> 'discarded' ORDER BY task_id, event_id DESC
), total AS (
    SELECT task_id, count(*) FILTER (WHERE event = 'attempt') AS attempts, count(*) FILTER (WHERE event = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE event = 'failed') AS failed, count(*) FILTER (WHERE event = 'withdrawn') AS withdrawn,
        sum(duration_ms) AS total_ms, sum(cost_usd) AS cost_usd, min(at) AS first_at
    FROM gone WHERE event <> 'discarded' GROUP BY task_id
), folded AS (
    INSERT INTO silver.tasks_history AS history
    SELECT task_id, latest.task_key, attempts, succeeded, failed, withdrawn, total_ms, total.cost_usd, first_at, event_id, batch_id, attempt,
        event, at, worker, duration_ms, error_type, error_message
    FROM total JOIN latest USING (task_id)
    ORDER BY task_id
    ON CONFLICT (task_id) DO UPDATE SET
        attempts = history.attempts + excluded.attempts, succeeded = history.succeeded + excluded.succeeded,
        failed = history.failed + excluded.failed, withdrawn = history.withdrawn + excluded.withdrawn,
        total_ms = CASE WHEN num_nonnulls(history.total_ms, excluded.total_ms) > 0
            THEN coalesce(history.total_ms, 0) + coalesce(excluded.total_ms, 0) END,
        cost_usd = CASE WHEN num_nonnulls(history.cost_usd, excluded.cost_usd) > 0
            THEN coalesce(history.cost_usd, 0) + coalesce(excluded.cost_usd, 0) END,
        last_event_id = excluded.last_event_id, last_batch_id = excluded.last_batch_id, last_attempt = excluded.last_attempt,
        last_event = excluded.last_event, last_at = excluded.last_at, last_worker = excluded.last_worker,
        last_duration_ms = excluded.last_duration_ms, last_error_type = excluded.last_error_type,
        last_error_message = excluded.last_error_message
)
SELECT (SELECT count(*) FROM old) AS batches, (SELECT count(*) FROM gone) AS events

-- name: free_orphans
-- In a batch that is not there, or that was consolidated without them: back to where plan finds them.
UPDATE silver.tasks_todo AS todo SET status = 'pending', batch_id = NULL, updated_at = now()
WHERE todo.status = 'batched'
  AND NOT EXISTS (SELECT FROM silver.tasks_batches AS batch WHERE batch.batch_id = todo.batch_id AND batch.state <> 'done')

-- name: reopen_lost
-- Succeeded, and yet without a result: somebody deleted it. Reads all of tasks_todo.
UPDATE silver.tasks_todo AS todo SET status = 'pending', batch_id = NULL, attempts = 0, updated_at = now()
WHERE todo.status = 'succeeded' AND NOT EXISTS (SELECT FROM silver.tasks_results AS result WHERE result.task_id = todo.task_id)

-- name: delete_stray_events
-- Of a batch that is not there: compaction takes a batch and its events together, so these lost theirs another way.
DELETE FROM silver.tasks_status AS event
WHERE NOT EXISTS (SELECT FROM silver.tasks_batches AS batch WHERE batch.batch_id = event.batch_id)
