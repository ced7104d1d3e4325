-- The frames in the results of video.extract_frames, each a subject: {task id of the extraction}/{file name}.

-- name: candidates
-- A frame that a still video shows twice is one subject. The limit stands twice: the inner one keeps a plan from unfolding the
-- frames of more videos than it can take.
SELECT DISTINCT
    'silver.tasks_results' AS subject_table, video.task_id || '/' || (frame ->> 'file') AS subject_key, video.file_id,
    frame ->> 'sha256' AS file_hash, (frame ->> 'bytes')::bigint AS bytes, video.change_seq,
    video.task_id::text AS group_key, ARRAY[video.task_id] AS depends_on
FROM (
    SELECT result.task_id, result.file_id, result.output, result.change_seq
    FROM silver.tasks_results AS result
    JOIN silver.tasks_prompts AS prompt USING (prompt_id)
    WHERE result.task_key = 'video.extract_frames' AND prompt.state = 'primary' AND result.change_seq > %(after)s
    ORDER BY result.change_seq
    LIMIT %(limit)s
) AS video
CROSS JOIN LATERAL jsonb_array_elements(video.output -> 'frames') AS frame
ORDER BY change_seq, subject_key
LIMIT %(limit)s

-- name: inputs
SELECT DISTINCT ON (wanted.subject_key)
    wanted.subject_key, frame ->> 'sha256' AS file_hash, (frame ->> 'time_ms')::bigint AS time_ms, result.subject_key AS media_id,
    'video.extract_frames/' || wanted.subject_key AS derived_path
FROM unnest(%(subject_keys)s::text[]) AS wanted (subject_key)
JOIN silver.tasks_results AS result ON result.task_id = split_part(wanted.subject_key, '/', 1)::uuid
CROSS JOIN LATERAL jsonb_array_elements(result.output -> 'frames') AS frame
WHERE frame ->> 'file' = split_part(wanted.subject_key, '/', 2)
ORDER BY wanted.subject_key, (frame ->> 'time_ms')::bigint
