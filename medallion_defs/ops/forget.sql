-- name: subjects
-- One that is forgotten already is a hash, and has nothing left.
SELECT DISTINCT source_type, external_id FROM ops.file_ingestions
WHERE file_id = ANY (%(file_ids)s) AND external_id NOT LIKE 'sha256:%%'
ORDER BY 1, 2

-- name: same_content
SELECT other.bronze_path
FROM ops.file_ingestions AS other
WHERE other.content_sha256 IN (SELECT content_sha256 FROM ops.file_ingestions WHERE file_id = ANY (%(file_ids)s))
    AND other.file_id <> ALL (%(file_ids)s) AND other.bronze_removed_at IS NULL
ORDER BY other.bronze_path
LIMIT %(limit)s
