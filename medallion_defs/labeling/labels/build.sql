-- name: lock
-- One refresh at a time: two would decide by different states of silver, and the slower would win.
SELECT pg_advisory_xact_lock('gold.media_labels'::regclass::bigint)

-- name: pending
-- What gold has not seen: by position in the two feeds, and tasks whose profiles were promoted, rolled back or set aside since.
-- An answer to a profile that does not count makes no row, so it is no work; neither is a verdict on an input without an answer.
WITH position AS (
    SELECT coalesce(max(result_change_seq), 0) AS result_after, (SELECT coalesce(max(verdict_change_seq), 0) FROM gold.media_labels) AS verdict_after
    FROM gold.media_labels
), counting AS (
    SELECT task_key, prompt_id, state, promoted_at, replaced_prompt_id
    FROM silver.tasks_prompts WHERE state <> 'variant' AND promoted_at IS NOT NULL
), ordered AS (
    SELECT task_key, md5(string_agg(prompt_id, ',' ORDER BY state = 'primary' DESC, promoted_at DESC, prompt_id)) AS prompt_order,
        array_agg(prompt_id) AS prompt_ids, bool_or(replaced_prompt_id IS NOT NULL) AS was_promoted
    FROM counting GROUP BY task_key
)
SELECT
    result_after,
    (
        SELECT max(change_seq)
        FROM (
            SELECT result.change_seq FROM silver.tasks_results AS result
            WHERE result.change_seq > result_after AND EXISTS (SELECT FROM counting WHERE counting.prompt_id = result.prompt_id)
            ORDER BY result.change_seq LIMIT %(max_rows)s
        ) AS next
    ) AS result_until,
    verdict_after,
    (
        SELECT max(verdict.change_seq) FROM silver.tasks_verdicts AS verdict
        WHERE verdict.change_seq > verdict_after AND EXISTS (
            SELECT FROM silver.tasks_results AS result
            WHERE result.file_hash = verdict.file_hash AND result.task_key = verdict.task_key AND result.media_type = verdict.media_type
              AND EXISTS (SELECT FROM counting WHERE counting.prompt_id = result.prompt_id)
        )
    ) AS verdict_until,
    ARRAY(
        -- Rows of another order, or none at all although there are answers: then only a profile that was promoted can have given them.
        SELECT ordered.task_key FROM ordered
        WHERE EXISTS (SELECT FROM gold.media_labels AS label WHERE label.task_key = ordered.task_key AND label.prompt_order < ordered.prompt_order)
           OR EXISTS (SELECT FROM gold.media_labels AS label WHERE label.task_key = ordered.task_key AND label.prompt_order > ordered.prompt_order)
           OR (ordered.was_promoted
               AND NOT EXISTS (SELECT FROM gold.media_labels AS label WHERE label.task_key = ordered.task_key)
               AND EXISTS (
                   SELECT FROM silver.tasks_results AS result
                   WHERE result.prompt_id = ANY (ordered.prompt_ids) AND result.change_seq <= result_after))
        ORDER BY ordered.task_key
    ) AS task_keys
FROM position

-- name: task_keys
SELECT task_key FROM silver.tasks_prompts UNION SELECT task_key FROM gold.media_labels ORDER BY task_key

-- name: touched_by_feeds
SELECT task_key, media_type, file_hash FROM silver.tasks_results WHERE change_seq > %(result_after)s AND change_seq <= %(result_until)s
UNION
SELECT task_key, media_type, file_hash FROM silver.tasks_verdicts WHERE change_seq > %(verdict_after)s AND change_seq <= %(verdict_until)s

-- name: touched_by_task
SELECT task_key, media_type, file_hash FROM silver.tasks_results WHERE task_key = %(task_key)s
UNION
SELECT task_key, media_type, file_hash FROM gold.media_labels WHERE task_key = %(task_key)s

-- name: write
-- A row says how far gold has read only up to this step's end: an answer beyond it would carry the position past others.
-- LIMIT 1 and FILTER keep what is asked of each input a probe by its hash, whatever the planner thinks of tables that just grew.
-- Inputs without an answer that counts stay in `decided` without a task: to look for them in a join of two CTEs, of which the planner
-- knows no size, takes the square of the inputs.
WITH touched AS MATERIALIZED ({touched}),
counting AS (
    SELECT task_key, prompt_id, state, promoted_at, content ->> 'model' IS NOT NULL AS asks_a_model
    FROM silver.tasks_prompts WHERE state <> 'variant' AND promoted_at IS NOT NULL
), ordered AS (
    SELECT task_key, md5(string_agg(prompt_id, ',' ORDER BY state = 'primary' DESC, promoted_at DESC, prompt_id)) AS prompt_order
    FROM counting GROUP BY task_key
), decided AS MATERIALIZED (
    SELECT touched.task_key, touched.media_type, touched.file_hash, current.task_id, current.prompt_id, result.subject_table,
        result.subject_key, current.file_id,
        CASE WHEN current.verdict_id IS NOT NULL THEN 'verdict' WHEN counting.asks_a_model THEN 'model' ELSE 'processor' END AS source,
        current.output, current.verdict_id, coalesce(answers.change_seq, 0) AS result_change_seq, verdicts.change_seq AS verdict_change_seq,
        ordered.prompt_order
    FROM touched
    LEFT JOIN LATERAL (
        SELECT * FROM silver.tasks_current AS current
        WHERE current.task_key = touched.task_key AND current.media_type = touched.media_type AND current.file_hash = touched.file_hash
        LIMIT 1
    ) AS current ON true
    LEFT JOIN silver.tasks_results AS result ON result.task_id = current.task_id
    LEFT JOIN counting ON counting.prompt_id = current.prompt_id
    LEFT JOIN ordered ON ordered.task_key = touched.task_key
    CROSS JOIN LATERAL (
        SELECT max(answer.change_seq) FILTER (WHERE answer.change_seq <= %(result_until)s) AS change_seq
        FROM silver.tasks_results AS answer
        WHERE answer.file_hash = touched.file_hash AND answer.task_key = touched.task_key AND answer.media_type = touched.media_type
          AND answer.prompt_id IN (SELECT prompt_id FROM counting)
    ) AS answers
    CROSS JOIN LATERAL (
        SELECT max(verdict.change_seq) FILTER (WHERE verdict.change_seq <= %(verdict_until)s) AS change_seq
        FROM silver.tasks_verdicts AS verdict
        WHERE verdict.file_hash = touched.file_hash AND verdict.task_key = touched.task_key AND verdict.media_type = touched.media_type
    ) AS verdicts
), gone AS (
    DELETE FROM gold.media_labels AS label USING decided
    WHERE decided.task_id IS NULL AND label.task_key = decided.task_key AND label.media_type = decided.media_type
      AND label.file_hash = decided.file_hash
    RETURNING label.file_id
), written AS (
    INSERT INTO gold.media_labels AS label (
        task_key, media_type, file_hash, task_id, prompt_id, subject_table, subject_key, file_id, source, output, verdict_id,
        result_change_seq, verdict_change_seq, prompt_order
    )
    SELECT task_key, media_type, file_hash, task_id, prompt_id, subject_table, subject_key, file_id, source, output, verdict_id,
        result_change_seq, verdict_change_seq, prompt_order
    FROM decided
    WHERE task_id IS NOT NULL
    ORDER BY task_key, media_type, file_hash
    ON CONFLICT (task_key, media_type, file_hash) DO UPDATE SET
        task_id = excluded.task_id, prompt_id = excluded.prompt_id, subject_table = excluded.subject_table,
        subject_key = excluded.subject_key, file_id = excluded.file_id, source = excluded.source, output = excluded.output,
        verdict_id = excluded.verdict_id, result_change_seq = excluded.result_change_seq,
        verdict_change_seq = excluded.verdict_change_seq, prompt_order = excluded.prompt_order,
        updated_at = CASE
            WHEN (label.task_id, label.subject_table, label.subject_key, label.file_id, label.output, label.verdict_id)
                IS DISTINCT FROM
                (excluded.task_id, excluded.subject_table, excluded.subject_key, excluded.file_id, excluded.output, excluded.verdict_id)
            THEN clock_timestamp() ELSE label.updated_at END
    WHERE (label.task_id, label.subject_table, label.subject_key, label.file_id, label.output, label.verdict_id, label.source,
           label.result_change_seq, label.verdict_change_seq, label.prompt_order)
        IS DISTINCT FROM
        (excluded.task_id, excluded.subject_table, excluded.subject_key, excluded.file_id, excluded.output, excluded.verdict_id,
         excluded.source, excluded.result_change_seq, excluded.verdict_change_seq, excluded.prompt_order)
    RETURNING label.xmax = 0 AS is_new, label.updated_at > now() AS has_changed
)
SELECT
    (SELECT count(*) FROM touched) AS checked,
    (SELECT count(*) FROM written WHERE is_new) AS created,
    (SELECT count(*) FROM written WHERE NOT is_new AND has_changed) AS updated,
    (SELECT count(*) FROM gone) AS deleted

-- name: counts
SELECT task_key, source, count(*) AS labels FROM gold.media_labels GROUP BY task_key, source ORDER BY task_key, source
