-- name: list_tasks
SELECT task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, bytes, depends_on, status, batch_id, attempts,
    retry_at, error_type, error_message, code_version, created_at, updated_at
FROM silver.tasks_todo
WHERE (%(task_key)s::text IS NULL OR task_key = %(task_key)s)
  AND (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
  AND (%(subject_key)s::text IS NULL OR subject_key = %(subject_key)s)
  AND (%(file_id)s::uuid IS NULL OR file_id = %(file_id)s)
  AND (%(task_id)s::uuid IS NULL OR task_id = %(task_id)s)
ORDER BY updated_at DESC, task_id
LIMIT %(limit)s

-- name: read_events
SELECT event_id, batch_id, attempt, event, at, worker, duration_ms, cost_usd, error_type, error_message, retry_seconds
FROM silver.tasks_status
WHERE task_id = %(task_id)s
ORDER BY event_id

-- name: read_history
SELECT attempts, succeeded, failed, withdrawn, total_ms, cost_usd, first_at, last_at FROM silver.tasks_history WHERE task_id = %(task_id)s

-- name: read_result
SELECT output, usage, cost_usd, attempt, batch_id, code_version, created_at, updated_at FROM silver.tasks_results WHERE task_id = %(task_id)s

-- name: read_verdict
SELECT verdict.verdict_id, verdict.output, verdict.reason, verdict.reviewer, verdict.created_at
FROM silver.tasks_todo AS todo
JOIN silver.tasks_verdicts AS verdict USING (task_key, media_type, file_hash)
WHERE todo.task_id = %(task_id)s AND verdict.superseded_at IS NULL

-- name: count_by_status
SELECT task_key, status, count(*) AS tasks, coalesce(sum(bytes), 0)::bigint AS bytes
FROM silver.tasks_todo
WHERE %(task_key)s::text IS NULL OR task_key = %(task_key)s
GROUP BY task_key, status
ORDER BY task_key, status
