-- name: digest_table
-- The binary form of a row depends on no setting of the session. A sum does not depend on the order; two halves of a sha256 make 128 bits.
SELECT count(*), sum(('x' || substr(hex, 1, 16))::bit(64)::bigint), sum(('x' || substr(hex, 17, 16))::bit(64)::bigint)
FROM (SELECT encode(sha256(record_send(ROW({columns}))), 'hex') AS hex FROM {table}) AS hashed
