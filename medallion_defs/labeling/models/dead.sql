-- name: list_dead
-- Dead is a task that no plan asks about any more, and a record whose answers failed too often: that one would be at its next turn.
-- A record that never got as far as a request has no key of its own yet; it goes by the name that a key has where the task gives none.
SELECT coalesce(counts.record_key, todo.task_key || ':' || todo.subject_key) AS record_key, todo.task_id, todo.task_key,
       coalesce(counts.count, 0) AS count, todo.error_type, todo.error_message,
       greatest(todo.updated_at, counts.last_updated) AS last_updated
FROM silver.tasks_todo AS todo
LEFT JOIN ops.failure_counts AS counts USING (task_id)
WHERE todo.status = 'dead' AND todo.task_key = ANY (%(task_keys)s)
UNION ALL
SELECT counts.record_key, counts.task_id, todo.task_key, counts.count, todo.error_type, todo.error_message, counts.last_updated
FROM ops.failure_counts AS counts
LEFT JOIN silver.tasks_todo AS todo USING (task_id)
WHERE counts.count > %(max_retries)s AND todo.status IS DISTINCT FROM 'dead'
ORDER BY last_updated DESC, record_key
LIMIT %(limit)s
