-- name: without_result
-- Tasks that have no result, by key, with the state of their prompt. What is in a batch is being worked on, or a model has it.
SELECT todo.task_id, todo.task_key, todo.subject_key, todo.file_hash, prompt.state AS prompt_state
FROM silver.tasks_todo AS todo
LEFT JOIN silver.tasks_prompts AS prompt USING (prompt_id)
WHERE todo.status <> 'batched' AND (%(after)s::uuid IS NULL OR todo.task_id > %(after)s)
  AND NOT EXISTS (SELECT FROM silver.tasks_results AS result WHERE result.task_id = todo.task_id)
  AND NOT EXISTS (SELECT FROM silver.tasks_withdrawn AS kept WHERE kept.task_id = todo.task_id)
ORDER BY todo.task_id
LIMIT %(limit)s

-- name: of_no_task
-- Events, single or folded, that neither a task nor a result is there for.
WITH events AS (SELECT DISTINCT task_id, task_key FROM silver.tasks_status UNION SELECT task_id, task_key FROM silver.tasks_history)
SELECT task_id, task_key FROM events
WHERE NOT EXISTS (SELECT FROM silver.tasks_todo AS todo WHERE todo.task_id = events.task_id)
  AND NOT EXISTS (SELECT FROM silver.tasks_results AS result WHERE result.task_id = events.task_id)
ORDER BY task_id

-- name: purge
-- Once more without a result and in no batch: since it was listed, a plan may have taken it.
WITH gone AS (
    DELETE FROM silver.tasks_todo AS todo
    WHERE task_id = ANY (%(task_ids)s) AND status <> 'batched'
      AND NOT EXISTS (SELECT FROM silver.tasks_results AS result WHERE result.task_id = todo.task_id)
    RETURNING task_id
), free AS (
    SELECT task_id FROM gone
    UNION
    SELECT wanted.task_id FROM unnest(%(task_ids)s::uuid[]) AS wanted (task_id)
    WHERE NOT EXISTS (SELECT FROM silver.tasks_todo AS todo WHERE todo.task_id = wanted.task_id)
      AND NOT EXISTS (SELECT FROM silver.tasks_results AS result WHERE result.task_id = wanted.task_id)
), events AS (
    DELETE FROM silver.tasks_status AS event USING free WHERE event.task_id = free.task_id RETURNING event.task_id
), folded AS (
    DELETE FROM silver.tasks_history AS history USING free WHERE history.task_id = free.task_id RETURNING history.task_id
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM events) + (SELECT count(*) FROM folded)
