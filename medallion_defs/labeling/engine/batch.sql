-- name: read_items
-- What of the batch has no outcome yet. An attempt without an outcome is one whose worker died.
SELECT todo.task_id, todo.media_type, todo.subject_table, todo.subject_key, todo.file_id, todo.file_hash, nullif(todo.depends_on, '{}') AS depends_on,
    todo.attempts + count(event.task_id)::int AS attempts, count(event.task_id) > 0 AS has_died
FROM silver.tasks_todo AS todo
LEFT JOIN silver.tasks_status AS event ON event.batch_id = todo.batch_id AND event.task_id = todo.task_id AND event.event <> 'discarded'
WHERE todo.batch_id = %(batch_id)s AND todo.status = 'batched'
GROUP BY todo.task_id
HAVING coalesce(bool_and(event.event = 'attempt'), true)
ORDER BY todo.group_key, todo.subject_key, todo.task_id

-- name: read_profile
SELECT content FROM silver.tasks_prompts WHERE prompt_id = %(prompt_id)s

-- name: read_dependencies
SELECT task_id, output FROM silver.tasks_results WHERE task_id = ANY (%(task_ids)s)

-- name: begin_attempts
COPY silver.tasks_status (task_id, task_key, batch_id, attempt, event, worker) FROM STDIN (FORMAT binary)

-- name: count_outcomes
SELECT event, count(*) FROM silver.tasks_status
WHERE batch_id = %(batch_id)s AND worker = %(worker)s AND event <> 'attempt'
GROUP BY event

-- name: copy_events
COPY silver.tasks_status (
    task_id, task_key, batch_id, attempt, event, worker, duration_ms, error_type, error_message, retry_seconds, output, usage, cost_usd,
    code_version
) FROM STDIN
