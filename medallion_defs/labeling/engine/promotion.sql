-- name: lock
-- One decision about a task at a time. Another lock than that of a plan, which holds a row of tasks_prompts while it reads on.
SELECT pg_advisory_xact_lock(hashtextextended('medallion prompts of ' || %(task_key)s, 0))

-- name: known
SELECT prompt_id, state, promoted_at, replaced_prompt_id, content
FROM silver.tasks_prompts WHERE task_key = %(task_key)s ORDER BY state, created_at, prompt_id

-- name: register
INSERT INTO silver.tasks_prompts (prompt_id, task_key, profile, content, state)
VALUES (%(prompt_id)s, %(task_key)s, %(profile)s, %(content)s, 'retired')
ON CONFLICT DO NOTHING

-- name: describe
-- The same questions under another name, version or comment.
UPDATE silver.tasks_prompts SET profile = %(profile)s, content = %(content)s
WHERE prompt_id = %(prompt_id)s AND (profile, content) IS DISTINCT FROM (%(profile)s::text, %(content)s::jsonb)

-- name: set_state
UPDATE silver.tasks_prompts SET
    state = %(state)s,
    promoted_at = CASE %(promoted)s WHEN 'now' THEN clock_timestamp() WHEN 'never' THEN NULL ELSE promoted_at END,
    replaced_prompt_id = coalesce(%(replaced)s, replaced_prompt_id)
WHERE prompt_id = %(prompt_id)s

-- name: release
-- What was put into batches for it and never begun: pending again, in case it comes back.
WITH released AS (
    UPDATE silver.tasks_batches SET state = 'done', updated_at = now()
    WHERE prompt_id = %(prompt_id)s AND task_key = %(task_key)s AND state = 'open' AND claims = 0
    RETURNING batch_id
)
UPDATE silver.tasks_todo AS todo SET status = 'pending', batch_id = NULL, updated_at = now()
FROM released WHERE todo.batch_id = released.batch_id AND todo.status = 'batched'

-- name: reread
-- Answers that were there before their profile was promoted: who reads by position in the feed has passed them.
UPDATE silver.tasks_prompts SET planned_seq = 0 WHERE task_key = ANY (%(task_keys)s) AND state IN ('primary', 'variant')

-- name: stored
SELECT prompt.task_key, prompt.prompt_id, prompt.state, prompt.promoted_at, prompt.replaced_prompt_id, prompt.content,
    coalesce(todo.answered, 0) AS answered, coalesce(todo.open, 0) AS open, coalesce(todo.dead, 0) AS dead, spent.cost_usd
FROM silver.tasks_prompts AS prompt
LEFT JOIN (
    SELECT prompt_id, count(*) FILTER (WHERE status = 'succeeded') AS answered,
        count(*) FILTER (WHERE status IN ('pending', 'batched', 'retrying')) AS open, count(*) FILTER (WHERE status = 'dead') AS dead
    FROM silver.tasks_todo WHERE %(task_key)s::text IS NULL OR task_key = %(task_key)s GROUP BY prompt_id
) AS todo USING (prompt_id)
LEFT JOIN (
    SELECT prompt_id, sum(cost_usd) AS cost_usd FROM silver.tasks_results
    WHERE %(task_key)s::text IS NULL OR task_key = %(task_key)s GROUP BY prompt_id
) AS spent USING (prompt_id)
WHERE %(task_key)s::text IS NULL OR prompt.task_key = %(task_key)s
ORDER BY prompt.task_key, prompt.state, prompt.created_at, prompt.prompt_id
