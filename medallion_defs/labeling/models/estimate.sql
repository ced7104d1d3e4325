-- name: answered
SELECT task_id FROM silver.tasks_results WHERE task_id = ANY (%(task_ids)s)

-- name: dependencies
SELECT task_id, output FROM silver.tasks_results WHERE task_id = ANY (%(task_ids)s)

-- name: output_tokens
-- What the task's answers had so far, thoughts included, whatever the profile: the newest thousand of its inputs.
SELECT avg(tokens)
FROM (
    SELECT (usage ->> 'candidatesTokenCount')::numeric + coalesce((usage ->> 'thoughtsTokenCount')::numeric, 0) AS tokens
    FROM silver.tasks_results
    WHERE task_key = %(task_key)s AND usage ? 'candidatesTokenCount'
    ORDER BY change_seq DESC
    LIMIT 1000
) AS newest
