-- Images that look alike, for people and for the console.

-- name: near_duplicates
-- Pairs of images whose hashes differ in at most max_distance bits: 0 to 4 is a copy in another size or quality. Images of one
-- colour all have the same hash and are left out. Compares each image with each: well for thousands, slow for a million.
WITH hashed AS (
    SELECT DISTINCT ON (subject_key) subject_key, output ->> 'phash' AS phash
    FROM silver.tasks_results
    WHERE task_key = 'image.thumbnail_phash' AND output ->> 'phash' <> '0000000000000000'
    ORDER BY subject_key, change_seq DESC
)
SELECT one.subject_key AS subject_key, other.subject_key AS other_key, distance
FROM hashed AS one
JOIN hashed AS other ON one.subject_key < other.subject_key
CROSS JOIN LATERAL (SELECT bit_count(('x' || one.phash)::bit(64) # ('x' || other.phash)::bit(64)) AS distance) AS compared
WHERE distance <= %(max_distance)s
ORDER BY distance, subject_key, other_key
