-- name: row
SELECT to_jsonb(row) FROM {table} AS row WHERE {key} = %(key)s

-- name: items
SELECT file_id, to_jsonb(item) FROM ops.file_ingestions AS item WHERE file_id = ANY(%(file_ids)s)

-- name: item_at
SELECT to_jsonb(item) FROM ops.file_ingestions AS item WHERE bronze_path = %(path)s

-- name: rows_of_item
-- A range and an order where an equality says the same: of an item with a tenth of the table the planner expects to meet rows soon
-- wherever it begins, and reads the nine tenths before them. The order it can only get from the index.
SELECT
    (
        SELECT count(*)
        FROM (SELECT FROM {table} WHERE {file_id} BETWEEN %(file_id)s AND %(file_id)s ORDER BY {file_id} LIMIT %(most)s) AS row
    ),
    ARRAY(
        SELECT {key}::text FROM {table} WHERE {file_id} BETWEEN %(file_id)s AND %(file_id)s ORDER BY {file_id} LIMIT %(examples)s
    )

-- name: rejects_of_item
SELECT error_code, count(*)
FROM (
    SELECT error_code FROM silver.rejected_rows WHERE file_id BETWEEN %(file_id)s AND %(file_id)s ORDER BY file_id LIMIT %(most)s
) AS row
GROUP BY error_code
ORDER BY count(*) DESC, error_code
