-- Which pages tasks are asked about: `candidates` by position in the change feed, `inputs` what a request is made of.

-- name: candidates
SELECT 'silver.curricular_pages' AS subject_table, page_key AS subject_key, file_id, content_sha256 AS file_hash, bytes, change_seq,
    NULL::text AS group_key, '{}'::uuid[] AS depends_on
FROM silver.curricular_pages
WHERE change_seq > %(after)s
ORDER BY change_seq
LIMIT %(limit)s

-- name: inputs
-- file_hash: between plan and process a new revision may have taken the row's place.
SELECT page_key AS subject_key, content_sha256 AS file_hash, label::text AS label, state, school, year, page_num, mime_type, bytes,
    bronze_path, artifact
FROM silver.curricular_pages
WHERE page_key = ANY(%(subject_keys)s)
