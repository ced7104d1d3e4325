-- name: metrics
-- One pass over the events since then, one over the open work, which has indexes of its own.
WITH event AS (
    SELECT task_key, count(*) FILTER (WHERE event = 'attempt') AS attempts, count(*) FILTER (WHERE event = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE event = 'failed') AS failed, count(*) FILTER (WHERE event = 'discarded') AS discarded,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) AS p50_ms, percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms,
        sum(cost_usd) AS cost_usd
    FROM silver.tasks_status
    WHERE at >= %(since)s
    GROUP BY task_key
), open AS (
    SELECT task_key, count(*) FILTER (WHERE status = 'pending') AS pending, count(*) FILTER (WHERE status = 'batched') AS batched,
        count(*) FILTER (WHERE status = 'retrying') AS retrying, count(*) FILTER (WHERE status = 'dead') AS dead,
        min(created_at) FILTER (WHERE status <> 'dead') AS oldest_open_at
    FROM silver.tasks_todo
    WHERE status = 'pending' OR status = 'batched' OR status = 'retrying' OR status IN ('dead', 'retrying')
    GROUP BY task_key
)
SELECT task_key, coalesce(attempts, 0) AS attempts, coalesce(succeeded, 0) AS succeeded, coalesce(failed, 0) AS failed,
    coalesce(discarded, 0) AS discarded,
    (coalesce(succeeded, 0) + coalesce(failed, 0)) * 3600 / greatest(extract(epoch FROM now() - %(since)s), 1)::float8 AS outcomes_per_hour,
    p50_ms, p95_ms, cost_usd,
    coalesce(pending, 0) AS pending, coalesce(batched, 0) AS batched, coalesce(retrying, 0) AS retrying, coalesce(dead, 0) AS dead,
    oldest_open_at
FROM event FULL JOIN open USING (task_key)
ORDER BY task_key

-- name: errors
SELECT task_key, error_type, status, count(*) AS tasks, max(updated_at) AS last_at,
    (array_agg(task_id ORDER BY updated_at DESC))[1] AS last_task_id, (array_agg(error_message ORDER BY updated_at DESC))[1] AS last_message
FROM silver.tasks_todo
WHERE status IN ('dead', 'retrying') AND (%(task_key)s::text IS NULL OR task_key = %(task_key)s)
GROUP BY task_key, error_type, status
ORDER BY tasks DESC, task_key, error_type, status
