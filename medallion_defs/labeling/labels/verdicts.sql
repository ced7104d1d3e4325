-- name: find_result
SELECT task_key, media_type, file_hash FROM silver.tasks_results WHERE task_id = %(task_id)s

-- name: supersede
-- Takes the change feed's lock even when there is none to supersede: two reviewers at once come one after the other.
UPDATE silver.tasks_verdicts SET superseded_at = now()
WHERE task_key = %(task_key)s AND file_hash = %(file_hash)s AND superseded_at IS NULL

-- name: insert
INSERT INTO silver.tasks_verdicts (task_key, media_type, file_hash, task_id, output, reason, reviewer)
VALUES (%(task_key)s, %(media_type)s, %(file_hash)s, %(task_id)s, %(output)s::jsonb, %(reason)s, %(reviewer)s)
RETURNING verdict_id

-- name: withdraw
UPDATE silver.tasks_verdicts SET superseded_at = now() WHERE verdict_id = %(verdict_id)s AND superseded_at IS NULL

-- name: agreement
SELECT result.task_key, result.prompt_id, prompt.profile, count(*) AS verdicts,
    count(*) FILTER (WHERE verdict.output = result.output) AS agreeing
FROM silver.tasks_verdicts AS verdict
JOIN silver.tasks_results AS result USING (task_key, media_type, file_hash)
JOIN silver.tasks_prompts AS prompt ON prompt.prompt_id = result.prompt_id
WHERE verdict.superseded_at IS NULL AND (%(task_key)s::text IS NULL OR result.task_key = %(task_key)s)
GROUP BY result.task_key, result.prompt_id, prompt.profile
ORDER BY result.task_key, prompt.profile, result.prompt_id
