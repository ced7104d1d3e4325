-- Which media tasks are asked about: `candidates` by position in the change feed, `inputs` what a processor reads of them.

-- name: video_candidates
SELECT 'silver.media' AS subject_table, media_id AS subject_key, file_id, content_sha256 AS file_hash, bytes, change_seq,
    NULL::text AS group_key, '{}'::uuid[] AS depends_on
FROM silver.media
WHERE media_type = 'video' AND change_seq > %(after)s
ORDER BY change_seq
LIMIT %(limit)s

-- name: audio_candidates
SELECT 'silver.media' AS subject_table, media_id AS subject_key, file_id, content_sha256 AS file_hash, bytes, change_seq,
    NULL::text AS group_key, '{}'::uuid[] AS depends_on
FROM silver.media
WHERE media_type = 'audio' AND change_seq > %(after)s
ORDER BY change_seq
LIMIT %(limit)s

-- name: image_candidates
SELECT 'silver.media' AS subject_table, media_id AS subject_key, file_id, content_sha256 AS file_hash, bytes, change_seq,
    NULL::text AS group_key, '{}'::uuid[] AS depends_on
FROM silver.media
WHERE media_type = 'image' AND change_seq > %(after)s
ORDER BY change_seq
LIMIT %(limit)s

-- name: inputs
-- file_hash: between plan and process a new revision may have taken the row's place.
SELECT media_id AS subject_key, content_sha256 AS file_hash, filename, mime_type, bytes, bronze_path, artifact
FROM silver.media
WHERE media_id = ANY(%(subject_keys)s)
