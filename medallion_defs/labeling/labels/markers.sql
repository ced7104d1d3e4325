-- name: noted
-- Of questions to the primary profile: the answer to any other is no longer what the marker stands for.
SELECT note.subject_key, note.task_id
FROM silver.tasks_markers AS note
JOIN silver.tasks_todo AS todo USING (task_id)
JOIN silver.tasks_prompts AS prompt ON prompt.prompt_id = todo.prompt_id AND prompt.state = 'primary'
WHERE note.task_key = %(task_key)s AND note.subject_key > %(after)s AND todo.status IN ('succeeded', 'withdrawn')
ORDER BY note.subject_key
LIMIT %(limit)s

-- name: ask_again
WITH forgotten AS (
    DELETE FROM silver.tasks_markers WHERE task_key = %(task_key)s AND task_id = ANY (%(task_ids)s)
)
UPDATE silver.tasks_todo SET
    status = 'pending', batch_id = NULL, attempts = 0, retry_at = NULL, error_type = NULL, error_message = NULL, updated_at = now()
WHERE task_id = ANY (%(task_ids)s) AND status IN ('succeeded', 'withdrawn')

-- name: unmarked
-- What holds, and is not what the note says. A task that is asked again keeps its result meanwhile, and has no marker: its status tells.
SELECT todo.task_id
FROM silver.tasks_todo AS todo
JOIN silver.tasks_current AS current ON current.task_key = %(task_key)s AND current.task_id = todo.task_id
LEFT JOIN silver.tasks_markers AS note ON note.task_key = %(task_key)s AND note.subject_key = todo.subject_key
WHERE todo.task_key = %(task_key)s AND todo.status = 'succeeded'
  AND (note.task_id IS DISTINCT FROM current.task_id OR note.output_md5 <> md5(current.output::text))
ORDER BY todo.subject_key, todo.task_id

-- name: read_current
-- By key: `unmarked` has found that these are the answers that hold.
SELECT
    result.subject_key, result.task_id, result.file_hash, result.prompt_id, prompt.content ->> 'model' AS model,
    CASE WHEN verdict.verdict_id IS NULL THEN 'model' ELSE 'verdict' END AS source,
    coalesce(verdict.output, result.output) AS output, md5(coalesce(verdict.output, result.output)::text) AS output_md5
FROM silver.tasks_results AS result
JOIN silver.tasks_prompts AS prompt ON prompt.prompt_id = result.prompt_id
LEFT JOIN silver.tasks_verdicts AS verdict
    ON verdict.task_key = result.task_key AND verdict.media_type = result.media_type AND verdict.file_hash = result.file_hash
    AND verdict.superseded_at IS NULL
WHERE result.task_id = ANY (%(task_ids)s)

-- name: asked_in
-- The exchange that gave the answer: of several attempts the last. By record key, for which there is an index.
SELECT DISTINCT ON (task_id) task_id, batch_id
FROM ops.batch_record_keys
WHERE record_key = ANY (%(record_keys)s) AND task_id = ANY (%(task_ids)s)
ORDER BY task_id, created_at DESC

-- name: note
INSERT INTO silver.tasks_markers AS note (task_key, subject_key, task_id, output_md5)
SELECT %(task_key)s, * FROM unnest(%(subject_keys)s::text[], %(task_ids)s::uuid[], %(output_md5s)s::text[])
ON CONFLICT (task_key, subject_key) DO UPDATE SET task_id = excluded.task_id, output_md5 = excluded.output_md5, noted_at = now()
