-- name: existing
-- The views that we made, by their comment; a person's own are left alone.
SELECT class.relname, obj_description(class.oid, 'pg_class')
FROM pg_class AS class
WHERE class.relnamespace = 'gold'::regnamespace AND class.relkind = 'v'
  AND obj_description(class.oid, 'pg_class') LIKE 'Labels; made by medallion migrate, %'
ORDER BY class.relname

-- name: view
SELECT subject.subject_table, subject.subject_key, subject.file_id, label.file_hash, label.task_id, label.prompt_id, label.source,
    label.updated_at{fields}
FROM (SELECT DISTINCT subject_table, subject_key, file_id, file_hash FROM ({subjects}) AS candidate) AS subject
JOIN gold.media_labels AS label
    ON label.task_key = {task_key} AND label.media_type = {media_type} AND label.file_hash = subject.file_hash

-- name: typed_field
-- What an older version of the task wrote may not fit the type: NULL then, and not an error for all rows.
CASE WHEN pg_input_is_valid(label.output ->> {key}, {type_name}) THEN (label.output ->> {key})::{type} END AS {name}

-- name: jsonb_field
label.output -> {key} AS {name}

-- name: list_field
CASE WHEN jsonb_typeof(label.output -> {key}) = 'array'
    THEN ARRAY(SELECT jsonb_array_elements_text(label.output -> {key})) END AS {name}
