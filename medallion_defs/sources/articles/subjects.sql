-- Which articles tasks are asked about: `candidates` by position in the change feed, `inputs` what a processor reads of them.

-- name: candidates
-- Only pages with an article in them. The hash is of the text, not of the page: a page that changed around its article asks nothing again.
SELECT 'silver.articles' AS subject_table, article_id AS subject_key, file_id, body_sha256 AS file_hash,
    octet_length(body_text)::bigint AS bytes, change_seq, NULL::text AS group_key, '{}'::uuid[] AS depends_on
FROM silver.articles
WHERE NOT quality_flags && '{missing_body,short_body}' AND change_seq > %(after)s
ORDER BY change_seq
LIMIT %(limit)s

-- name: inputs
SELECT article_id AS subject_key, body_sha256 AS file_hash, title, url, stated_language, body_text AS text
FROM silver.articles
WHERE article_id = ANY(%(subject_keys)s)
