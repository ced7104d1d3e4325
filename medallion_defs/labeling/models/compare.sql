-- name: inputs
WITH both_sides AS MATERIALIZED (
    SELECT one.output AS one, other.output AS other
    FROM silver.tasks_results AS one
    JOIN silver.tasks_results AS other
        ON other.task_key = one.task_key AND other.media_type = one.media_type AND other.file_hash = one.file_hash
    WHERE one.task_key = %(task_key)s AND one.prompt_id = %(one)s AND other.prompt_id = %(other)s
), fields AS (
    SELECT field, count(*) AS inputs, count(*) FILTER (WHERE both_sides.one -> field IS NOT DISTINCT FROM both_sides.other -> field) AS agreeing
    FROM both_sides
    CROSS JOIN LATERAL (SELECT jsonb_object_keys(both_sides.one) UNION SELECT jsonb_object_keys(both_sides.other)) AS key (field)
    GROUP BY field
)
SELECT
    (SELECT count(*) FROM both_sides) AS inputs,
    (SELECT count(*) FROM both_sides WHERE one = other) AS agreeing,
    coalesce((SELECT jsonb_agg(jsonb_build_array(field, inputs, agreeing) ORDER BY field) FROM fields), '[]') AS fields

-- name: differing
SELECT one.subject_key, one.task_id AS one_task_id, other.task_id AS other_task_id, one.output AS one, other.output AS other
FROM silver.tasks_results AS one
JOIN silver.tasks_results AS other
    ON other.task_key = one.task_key AND other.media_type = one.media_type AND other.file_hash = one.file_hash
WHERE one.task_key = %(task_key)s AND one.prompt_id = %(one)s AND other.prompt_id = %(other)s AND one.output <> other.output
ORDER BY one.subject_key, one.task_id
LIMIT %(limit)s

-- name: side
-- Money is of all attempts, those that failed and those that were compacted included.
WITH task AS (
    SELECT task_id, status FROM silver.tasks_todo WHERE task_key = %(task_key)s AND prompt_id = %(prompt_id)s
)
SELECT
    count(*) FILTER (WHERE status = 'succeeded') AS answered,
    count(*) FILTER (WHERE status = 'dead') AS dead,
    count(*) FILTER (WHERE status IN ('pending', 'batched', 'retrying')) AS open,
    coalesce((SELECT sum(cost_usd) FROM silver.tasks_status JOIN task USING (task_id)), 0)
    + coalesce((SELECT sum(cost_usd) FROM silver.tasks_history JOIN task USING (task_id)), 0) AS total_usd
FROM task
