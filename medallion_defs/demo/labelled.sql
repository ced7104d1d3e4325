-- name: results
SELECT task_key, count(*) FROM silver.tasks_results
WHERE subject_key LIKE %(prefix)s OR task_key = 'page.curricular' AND subject_key = ANY (%(pages)s)
GROUP BY 1

-- name: in_gold
SELECT count(*)
FROM gold.media_labels AS label
JOIN silver.tasks_results AS result USING (task_key, media_type, file_hash)
WHERE result.subject_key LIKE %(prefix)s OR task_key = 'page.curricular' AND result.subject_key = ANY (%(pages)s)

-- name: batches
SELECT count(*), coalesce(sum(settled_usd), 0)
FROM ops.active_batches
WHERE batch_id IN (
    SELECT batch_id FROM ops.batch_record_keys
    WHERE record_key = ANY (%(pages)s) OR split_part(record_key, ':', 2) LIKE %(prefix)s)
