-- name: of_source
-- With the questions that a model was asked about these items: a row that changes when it is loaded again is asked about again.
SELECT count(DISTINCT item.file_id) AS items, count(result.task_id) AS questions, coalesce(sum(result.cost_usd), 0) AS usd
FROM ops.file_ingestions AS item
LEFT JOIN silver.tasks_todo AS todo ON todo.file_id = item.file_id AND todo.task_key = ANY (%(paid)s)
LEFT JOIN silver.tasks_results AS result ON result.task_id = todo.task_id
WHERE item.source_type = %(source_type)s AND item.status = 'loaded' AND item.bronze_can_promote AND item.code_version <> ALL (%(known)s)

-- name: of_task
SELECT count(*) AS items, count(*) FILTER (WHERE %(asks)s) AS questions, coalesce(sum(result.cost_usd), 0) AS usd
FROM silver.tasks_todo AS todo LEFT JOIN silver.tasks_results AS result ON result.task_id = todo.task_id
WHERE todo.task_key = %(task_key)s AND todo.status = 'succeeded' AND todo.code_version <> %(code_version)s
