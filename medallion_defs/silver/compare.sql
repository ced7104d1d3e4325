-- Two variants side by side. {a} and {b} are their tables, {key} the key, {a_rejects} and {b_rejects} their rejected records.
--
-- Compared are rows made of items that both have read (pg_temp.compared_items); {differing} lists the names of the columns in which two
-- rows of a key differ. Run in one REPEATABLE READ transaction, or the counts do not fit together.

-- name: set_memory
SELECT set_config('work_mem', '128MB', true)

-- name: create_items
CREATE TEMP TABLE compared_items ON COMMIT DROP AS {a_items} INTERSECT {b_items}

-- name: silver_items
SELECT file_id FROM ops.file_ingestions
WHERE source_type = {source_type} AND silver_ingest_end_time IS NOT NULL AND bronze_can_promote

-- name: experiment_items
SELECT file_id FROM silver_experiments.variant_loads WHERE source_type = {source_type} AND variant = {variant}

-- name: analyze_items
ANALYZE pg_temp.compared_items

-- name: create_rows
CREATE TEMP TABLE compared_rows ON COMMIT DROP AS
SELECT coalesce(a.{key}, b.{key}) AS row_key, a.{key} IS NOT NULL AS in_a, b.{key} IS NOT NULL AS in_b, {differing} AS differing
FROM {a} AS a
FULL JOIN {b} AS b ON a.{key} = b.{key}
WHERE (a.{key} IS NULL OR a.file_id IN (SELECT file_id FROM pg_temp.compared_items))
  AND (b.{key} IS NULL OR b.file_id IN (SELECT file_id FROM pg_temp.compared_items))

-- name: count_items
SELECT count(*) FROM pg_temp.compared_items

-- name: count_rows
SELECT count(*) FILTER (WHERE in_a AND in_b), count(*) FILTER (WHERE NOT in_b), count(*) FILTER (WHERE NOT in_a),
    count(*) FILTER (WHERE in_a AND in_b AND differing <> '{{}}'),
    (SELECT count(*) FROM {a}) - count(*) FILTER (WHERE in_a), (SELECT count(*) FROM {b}) - count(*) FILTER (WHERE in_b)
FROM pg_temp.compared_rows

-- name: count_columns
SELECT name, count(*) FROM pg_temp.compared_rows, unnest(differing) AS name WHERE in_a AND in_b GROUP BY name ORDER BY count(*) DESC, name

-- name: show_differences
SELECT compared.row_key AS key, to_jsonb(a.{column}) AS a, to_jsonb(b.{column}) AS b,
    a_item.bronze_path AS file_a, a.source_record AS record_a, b_item.bronze_path AS file_b, b.source_record AS record_b
FROM (
    SELECT row_key FROM pg_temp.compared_rows WHERE in_a AND in_b AND %(column)s = ANY (differing) ORDER BY row_key LIMIT %(limit)s
) AS compared
JOIN {a} AS a ON a.{key} = compared.row_key
JOIN {b} AS b ON b.{key} = compared.row_key
LEFT JOIN ops.file_ingestions AS a_item ON a_item.file_id = a.file_id
LEFT JOIN ops.file_ingestions AS b_item ON b_item.file_id = b.file_id
ORDER BY compared.row_key

-- name: show_only
SELECT compared.row_key AS key, item.bronze_path AS file, one.source_record AS record
FROM (SELECT row_key FROM pg_temp.compared_rows WHERE in_a = %(in_a)s AND in_b = %(in_b)s ORDER BY row_key LIMIT %(limit)s) AS compared
JOIN {one} AS one ON one.{key} = compared.row_key
LEFT JOIN ops.file_ingestions AS item ON item.file_id = one.file_id
ORDER BY compared.row_key

-- name: count_flags
SELECT flag, count(*) FROM {one} AS one, unnest(quality_flags) AS flag
WHERE one.file_id IN (SELECT file_id FROM pg_temp.compared_items)
GROUP BY flag ORDER BY flag

-- name: count_rejects
SELECT error_code, count(*) FROM {one_rejects} AS one
WHERE one.file_id IN (SELECT file_id FROM pg_temp.compared_items)
GROUP BY error_code ORDER BY error_code

-- name: silver_state
-- Items of other code than the variant's: silver as it is, is not what the variant makes of them.
SELECT count(*) FILTER (WHERE status = 'loaded') AS items, count(*) FILTER (WHERE status IN ('dead', 'retrying')) AS failed,
    count(*) FILTER (
        WHERE code_version IS DISTINCT FROM ops.present_version(coalesce(bronze_filename, external_id), %(patterns)s, %(versions)s)
    ) AS outdated
FROM ops.file_ingestions
WHERE source_type = %(source_type)s AND silver_ingest_end_time IS NOT NULL AND bronze_can_promote

-- name: experiment_state
SELECT count(*) FILTER (WHERE error IS NULL) AS items, count(error) AS failed,
    count(*) FILTER (WHERE code_version <> %(code_version)s) AS outdated
FROM silver_experiments.variant_loads
WHERE source_type = %(source_type)s AND variant = %(variant)s
