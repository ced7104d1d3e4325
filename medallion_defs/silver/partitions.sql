-- Which items partitions stand for. Read only; a key is the directory of an item, or its file id.

-- name: items_of_batches
-- Microbatches that have one item left: which one.
SELECT batch_id, min(bronze_path) AS bronze_path, (array_agg(file_id))[1] AS file_id
FROM ops.file_ingestions
WHERE batch_id = ANY (%(batch_ids)s) AND status = 'claimed'
GROUP BY batch_id
HAVING count(*) = 1

-- name: count_items
-- A range of bronze_path (collation C; '0' follows '/'), answered by its index alone, and never past the limit.
SELECT count(*) FROM (
    SELECT FROM ops.file_ingestions
    WHERE bronze_path >= %(source_type)s::text || '/' AND bronze_path < %(source_type)s::text || '0'
    LIMIT %(limit)s
) AS item

-- name: items_in_need
-- Those that are not in silver yet: on their way, or waiting for a person.
SELECT bronze_path, file_id FROM ops.file_ingestions
WHERE (bronze_path = ANY (%(paths)s) OR file_id = ANY (%(file_ids)s)) AND status IN ('pending', 'claimed', 'retrying', 'dead')
