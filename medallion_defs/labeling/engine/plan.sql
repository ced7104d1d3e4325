-- name: lock_prompt
-- One plan at a time reads on for a prompt; one that waited here reads on from where the other stopped.
SELECT planned_seq FROM silver.tasks_prompts WHERE prompt_id = %(prompt_id)s AND state IN ('primary', 'variant') FOR NO KEY UPDATE

-- name: advance
UPDATE silver.tasks_prompts SET planned_seq = %(planned_seq)s WHERE prompt_id = %(prompt_id)s

-- name: reread
UPDATE silver.tasks_prompts SET planned_seq = 0 WHERE task_key = %(task_key)s AND state IN ('primary', 'variant')

-- name: insert_todo
-- A task that was withdrawn is wanted again: its bytes are back. Any other that exists stays as it is.
INSERT INTO silver.tasks_todo AS todo (
    task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, bytes, group_key, depends_on
)
SELECT task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, bytes, group_key, depends_on
FROM jsonb_populate_recordset(NULL::silver.tasks_todo, %(rows)s)
ORDER BY task_id
ON CONFLICT (task_id) DO UPDATE SET
    status = 'pending', batch_id = NULL, attempts = 0, subject_table = excluded.subject_table, subject_key = excluded.subject_key,
    file_id = excluded.file_id, bytes = excluded.bytes, group_key = excluded.group_key, depends_on = excluded.depends_on, updated_at = now()
WHERE todo.status = 'withdrawn'

-- name: restore
-- Subjects that were gone and are back have their answers again, and are not asked.
WITH subject AS (
    SELECT task_id, subject_table, subject_key, file_id FROM jsonb_populate_recordset(NULL::silver.tasks_todo, %(rows)s)
), back AS (
    DELETE FROM silver.tasks_withdrawn AS kept USING subject WHERE kept.task_id = subject.task_id
    RETURNING kept.*, subject.subject_table, subject.subject_key, subject.file_id AS subject_file_id
), restored AS (
    INSERT INTO silver.tasks_results (
        task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, output, usage, cost_usd, attempt, batch_id,
        code_version, created_at
    )
    SELECT task_id, task_key, media_type, prompt_id, subject_table, subject_key, subject_file_id, file_hash, output, usage, cost_usd, attempt,
        batch_id, code_version, created_at
    FROM back
    ON CONFLICT (task_id) DO NOTHING
)
UPDATE silver.tasks_todo AS todo SET status = 'succeeded', batch_id = back.batch_id, attempts = back.attempt, updated_at = now()
FROM back WHERE todo.task_id = back.task_id AND todo.status = 'pending'

-- name: rearm_outdated
UPDATE silver.tasks_todo SET
    status = 'pending', batch_id = NULL, attempts = 0, retry_at = NULL, error_type = NULL, error_message = NULL, updated_at = now()
WHERE task_key = %(task_key)s AND status IN ('dead', 'retrying')
  AND (code_version < %(code_version)s OR code_version > %(code_version)s)

-- name: lock_pending
-- Of profiles in use: what waits for one that was retired is not asked, and is still there when that comes back.
SELECT task_id, prompt_id, bytes, group_key FROM silver.tasks_todo
WHERE task_key = %(task_key)s AND status = 'pending' AND prompt_id = ANY (%(prompt_ids)s)
ORDER BY created_at, task_id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: lock_due
SELECT task_id, prompt_id, bytes, group_key FROM silver.tasks_todo
WHERE task_key = %(task_key)s AND status = 'retrying' AND retry_at <= now() AND prompt_id = ANY (%(prompt_ids)s)
ORDER BY retry_at, task_id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED

-- name: make_batch
WITH batch AS (
    INSERT INTO silver.tasks_batches (task_key, prompt_id, items, bytes)
    VALUES (%(task_key)s, %(prompt_id)s, %(items)s, %(bytes)s)
    RETURNING batch_id
)
UPDATE silver.tasks_todo SET
    status = 'batched', batch_id = batch.batch_id, retry_at = NULL, error_type = NULL, error_message = NULL, updated_at = now()
FROM batch
WHERE task_id = ANY (%(task_ids)s)

-- name: redo
-- By the key, part by part. What is done again keeps its result until the new one is there.
WITH part AS (
    SELECT task_id, status, updated_at, created_at, file_id, code_version FROM silver.tasks_todo
    WHERE task_key = %(task_key)s AND (%(after)s::uuid IS NULL OR task_id > %(after)s)
    ORDER BY task_id
    LIMIT %(limit)s
), redone AS (
    UPDATE silver.tasks_todo AS todo SET status = 'pending', batch_id = NULL, attempts = 0, updated_at = now()
    FROM part
    WHERE todo.task_id = part.task_id AND todo.status = 'succeeded' AND todo.updated_at < %(before)s
      -- A marker keeps its subject from being asked: without this the task would lose its state and get no other answer.
      AND NOT (%(keep_marked)s AND EXISTS (
          SELECT FROM silver.tasks_markers AS note
          WHERE note.task_key = todo.task_key AND note.subject_key = todo.subject_key AND note.task_id = todo.task_id
      ))
      AND (%(since)s::timestamptz IS NULL OR todo.created_at >= %(since)s)
      AND (%(file_ids)s::uuid[] IS NULL OR todo.file_id = ANY (%(file_ids)s))
      AND (%(current_code)s::text IS NULL OR todo.code_version IS DISTINCT FROM %(current_code)s)
    RETURNING todo.task_id
)
SELECT (SELECT max(task_id::text)::uuid FROM part) AS last, (SELECT count(*) FROM redone) AS redone

-- name: count_redo
-- What the answers that are there have cost is the best guess at what new ones will.
SELECT
    count(*) FILTER (WHERE NOT is_marked) AS tasks, coalesce(sum(todo.bytes) FILTER (WHERE NOT is_marked), 0)::bigint AS bytes,
    coalesce(sum(result.cost_usd) FILTER (WHERE NOT is_marked), 0) AS usd, count(*) FILTER (WHERE is_marked) AS marked
FROM silver.tasks_todo AS todo
LEFT JOIN silver.tasks_results AS result USING (task_id)
CROSS JOIN LATERAL (
    SELECT %(keep_marked)s AND EXISTS (
        SELECT FROM silver.tasks_markers AS note
        WHERE note.task_key = todo.task_key AND note.subject_key = todo.subject_key AND note.task_id = todo.task_id
    ) AS is_marked
) AS mark
WHERE todo.task_key = %(task_key)s AND todo.status = 'succeeded' AND todo.updated_at < %(before)s
  AND (%(since)s::timestamptz IS NULL OR todo.created_at >= %(since)s)
  AND (%(file_ids)s::uuid[] IS NULL OR todo.file_id = ANY (%(file_ids)s))
  AND (%(current_code)s::text IS NULL OR todo.code_version IS DISTINCT FROM %(current_code)s)

-- name: requeue
-- The count of a record's failed answers goes with its attempts: else the record would be dead again before it is asked about.
WITH requeued AS (
    UPDATE silver.tasks_todo SET
        status = 'pending', batch_id = NULL, attempts = 0, retry_at = NULL, error_type = NULL, error_message = NULL, updated_at = now()
    WHERE status = ANY (%(statuses)s)
      AND (%(task_key)s::text IS NULL OR task_key = %(task_key)s)
      AND (%(task_ids)s::uuid[] IS NULL OR task_id = ANY (%(task_ids)s))
      AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
    RETURNING task_id
), forgotten AS (
    DELETE FROM ops.failure_counts AS counts USING requeued WHERE counts.task_id = requeued.task_id
)
SELECT count(*) FROM requeued
