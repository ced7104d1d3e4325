-- What is open of which task. Partial indexes only: what is done costs a look nothing.

-- name: read_prompts
SELECT task_key, prompt_id, planned_seq FROM silver.tasks_prompts WHERE state IN ('primary', 'variant')

-- name: read_promotion
SELECT coalesce(max(promoted_at)::text, '') FROM silver.tasks_prompts

-- name: read_states
SELECT
    task.task_key,
    EXISTS (SELECT FROM silver.tasks_batches WHERE task_key = task.task_key AND state = 'processed') AS has_processed,
    EXISTS (
        SELECT FROM silver.tasks_batches
        WHERE task_key = task.task_key AND state = 'open' AND (lease_until IS NULL OR lease_until < now())
    ) AS has_batches,
    -- What waits for a retired profile is nobody's work: plan leaves it where it is.
    EXISTS (
        SELECT FROM silver.tasks_todo JOIN silver.tasks_prompts AS prompt USING (prompt_id)
        WHERE tasks_todo.task_key = task.task_key AND status = 'pending' AND prompt.state <> 'retired'
    ) AS has_pending,
    EXISTS (
        SELECT FROM silver.tasks_todo JOIN silver.tasks_prompts AS prompt USING (prompt_id)
        WHERE tasks_todo.task_key = task.task_key AND status = 'retrying' AND retry_at <= now() AND prompt.state <> 'retired'
    ) AS has_due,
    EXISTS (
        SELECT FROM silver.tasks_todo
        WHERE task_key = task.task_key AND status IN ('dead', 'retrying')
          AND (code_version < task.code_version OR code_version > task.code_version)
    ) AS has_outdated
FROM unnest(%(task_keys)s::text[], %(code_versions)s::text[]) AS task (task_key, code_version)

-- name: feed_end
SELECT coalesce(pg_sequence_last_value('silver.change_seq'), 0)

-- name: is_feed_quiet
-- Whoever draws a position holds the lock of its table from before the draw to after the commit: an advisory lock on the table's oid.
SELECT NOT EXISTS (
    SELECT FROM pg_locks
    JOIN pg_class AS watched ON watched.oid = pg_locks.objid AND watched.relnamespace = 'silver'::regnamespace
    WHERE locktype = 'advisory' AND classid = 0 AND objsubid = 1
)
