-- name: read
SELECT source_type, after, problems, sliced_at, passed_at FROM ops.verifications ORDER BY source_type

-- name: save
INSERT INTO ops.verifications (source_type, after, problems, sliced_at, passed_at)
VALUES (%(source_type)s, %(after)s, %(problems)s, %(sliced_at)s, %(passed_at)s)
ON CONFLICT (source_type) DO UPDATE SET
    after = excluded.after, problems = excluded.problems, sliced_at = excluded.sliced_at, passed_at = excluded.passed_at
