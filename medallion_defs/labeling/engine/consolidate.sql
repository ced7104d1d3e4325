-- name: give_room
-- A group's rows pass through the statement several times: with the 4 MB of the default, by way of the disk; what a group does not need
-- is not taken. Before the first ANALYZE the planner expects one row of each join, and takes nested loops: 100,000 items of one batch
-- then take hours. The join by merging leaves the rows in the order of the keys that they are then written to.
SELECT set_config('work_mem', '128MB', true), set_config('enable_nestloop', 'off', true), set_config('enable_hashjoin', 'off', true)

-- name: lock_processed
SELECT batch_id, items FROM silver.tasks_batches
WHERE task_key = %(task_key)s AND state = 'processed'
ORDER BY batch_id
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED

-- name: consolidate
-- Each item's last outcome in the batch that it is in decides. The results are written last: their change feed's lock is held from there to the commit.
-- What the results need comes along with the update: of a join of two CTEs the planner knows no size, and takes nested loops.
WITH outcome AS (
    SELECT DISTINCT ON (task_id, batch_id)
        task_id, batch_id, attempt, event, at, error_type, error_message, retry_seconds, output, usage, cost_usd, code_version,
        CASE WHEN event <> 'failed' THEN event WHEN retry_seconds IS NULL THEN 'dead' ELSE 'retrying' END AS status
    FROM silver.tasks_status
    WHERE batch_id = ANY (%(batch_ids)s) AND event IN ('succeeded', 'failed', 'withdrawn')
    ORDER BY task_id, batch_id, event_id DESC
), updated AS (
    UPDATE silver.tasks_todo AS todo SET
        status = outcome.status,
        attempts = outcome.attempt,
        retry_at = outcome.at + outcome.retry_seconds * interval '1 second',
        error_type = outcome.error_type,
        error_message = outcome.error_message,
        code_version = outcome.code_version,
        updated_at = now()
    FROM outcome
    -- Not "=" for the batch: the planner would join by it, and compare each item of a batch with each outcome of it.
    WHERE todo.task_id = outcome.task_id AND todo.batch_id IS NOT DISTINCT FROM outcome.batch_id AND todo.status = 'batched'
      AND todo.batch_id = ANY (%(batch_ids)s)
    RETURNING todo.task_id, todo.task_key, todo.media_type, todo.prompt_id, todo.subject_table, todo.subject_key, todo.file_id,
        todo.file_hash, todo.status, outcome.output, outcome.usage, outcome.cost_usd, outcome.attempt, outcome.batch_id, outcome.code_version
), written AS (
    INSERT INTO silver.tasks_results AS result (
        task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, output, usage, cost_usd, attempt, batch_id,
        code_version
    )
    SELECT task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, output, usage, cost_usd, attempt, batch_id,
        code_version
    FROM updated
    WHERE status = 'succeeded'
    ON CONFLICT (task_id) DO UPDATE SET
        output = excluded.output, usage = excluded.usage, cost_usd = excluded.cost_usd, attempt = excluded.attempt,
        batch_id = excluded.batch_id, code_version = excluded.code_version
    WHERE result.output <> excluded.output
    RETURNING result.xmax = 0 AS is_new
), done AS (
    UPDATE silver.tasks_batches SET state = 'done', updated_at = now() WHERE batch_id = ANY (%(batch_ids)s)
)
SELECT * FROM (
    SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded, count(*) FILTER (WHERE status = 'retrying') AS retrying,
        count(*) FILTER (WHERE status = 'dead') AS dead, count(*) FILTER (WHERE status = 'withdrawn') AS withdrawn
    FROM updated
), (
    SELECT count(*) FILTER (WHERE is_new) AS results_created, count(*) FILTER (WHERE NOT is_new) AS results_updated FROM written
)
