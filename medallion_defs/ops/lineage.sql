-- name: row
SELECT to_jsonb(row) FROM {table} AS row WHERE {key} = %(key)s

-- name: items
SELECT file_id, to_jsonb(item) FROM ops.file_ingestions AS item WHERE file_id = ANY(%(file_ids)s)

-- name: item_at
SELECT to_jsonb(item) FROM ops.file_ingestions AS item WHERE bronze_path = %(path)s

-- name: rows_of_item
SELECT
    (SELECT count(*) FROM {table} WHERE {file_id} = %(file_id)s),
    ARRAY(SELECT {key}::text FROM {table} WHERE {file_id} = %(file_id)s LIMIT %(examples)s)

-- name: rejects_of_item
SELECT error_code, count(*) FROM silver.rejected_rows WHERE file_id = %(file_id)s GROUP BY error_code ORDER BY count(*) DESC, error_code
