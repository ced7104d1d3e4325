-- Answers about subjects whose silver row was deleted. silver.vanished_rows has the keys, by position in the change feed; how far they
-- were followed is noted in ops.cursors, in the transaction that withdraws the answers.

-- name: next
-- The next deletions of each table that were not followed yet: at most %(max_keys)s keys of a table.
SELECT follower.name, follower.table_name, coalesce(known.cursor::bigint, 0) AS after, next.until
FROM unnest(%(names)s::text[], %(tables)s::text[]) AS follower (name, table_name)
LEFT JOIN ops.cursors AS known ON known.name = follower.name
CROSS JOIN LATERAL (
    SELECT max(change_seq) AS until
    FROM (
        SELECT change_seq FROM silver.vanished_rows
        WHERE table_name = follower.table_name AND change_seq > coalesce(known.cursor::bigint, 0)
        ORDER BY change_seq LIMIT %(max_keys)s
    ) AS part
) AS next
WHERE next.until IS NOT NULL
ORDER BY follower.table_name

-- name: about_deleted_rows
SELECT result.task_key, result.file_hash
FROM silver.vanished_rows AS vanished
JOIN silver.tasks_results AS result ON result.subject_table = 'silver.' || vanished.table_name AND result.subject_key = vanished.key
WHERE vanished.table_name = %(table)s AND vanished.change_seq > %(after)s AND vanished.change_seq <= %(until)s
  AND result.task_key = ANY (%(task_keys)s)
GROUP BY result.task_key, result.file_hash

-- name: about_answers
-- Frames of a film, say: subjects that were found in answers which do not hold any more.
SELECT result.task_key, result.file_hash
FROM silver.tasks_todo AS todo JOIN silver.tasks_results AS result USING (task_id)
WHERE todo.depends_on && %(task_ids)s AND result.task_key = ANY (%(task_keys)s)
GROUP BY result.task_key, result.file_hash

-- name: present
-- Another subject may have the same bytes, or the row may be back: the answer is about that one then.
SELECT DISTINCT ON (file_hash) file_hash, subject_table, subject_key, file_id
FROM ({candidates}) AS subject
WHERE file_hash = ANY (%(file_hashes)s)
ORDER BY file_hash, subject_table, subject_key

-- name: move
UPDATE silver.tasks_results AS result SET
    subject_table = subject.subject_table, subject_key = subject.subject_key, file_id = subject.file_id, updated_at = now()
FROM jsonb_to_recordset(%(subjects)s) AS subject (file_hash text, subject_table text, subject_key text, file_id uuid)
WHERE result.task_key = %(task_key)s AND result.file_hash = subject.file_hash
  AND (result.subject_table, result.subject_key, result.file_id) <> (subject.subject_table, subject.subject_key, subject.file_id)

-- name: withdraw
WITH gone AS (
    DELETE FROM silver.tasks_results WHERE task_key = %(task_key)s AND file_hash = ANY (%(file_hashes)s) RETURNING *
), kept AS (
    INSERT INTO silver.tasks_withdrawn (
        task_id, task_key, media_type, prompt_id, file_id, file_hash, output, usage, cost_usd, attempt, batch_id, code_version, created_at
    )
    SELECT task_id, task_key, media_type, prompt_id, file_id, file_hash, output, usage, cost_usd, attempt, batch_id, code_version, created_at
    FROM gone
    ON CONFLICT (task_id) DO UPDATE SET
        file_id = excluded.file_id, output = excluded.output, usage = excluded.usage, cost_usd = excluded.cost_usd,
        attempt = excluded.attempt, batch_id = excluded.batch_id, code_version = excluded.code_version, created_at = excluded.created_at,
        withdrawn_at = now()
), told AS (
    UPDATE silver.tasks_todo AS todo SET status = 'withdrawn', updated_at = now()
    FROM gone WHERE todo.task_id = gone.task_id AND todo.status = 'succeeded'
)
SELECT task_id FROM gone

-- name: delete_labels
DELETE FROM gold.media_labels WHERE task_key = %(task_key)s AND file_hash = ANY (%(file_hashes)s)
