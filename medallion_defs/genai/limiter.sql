-- name: take
-- The time is the database's: a process whose clock is ahead would keep the others from refilling the bucket.
-- One row a bucket: it fills at a rate, up to a minute's worth, and may go into debt once; nobody takes from a bucket in debt.
INSERT INTO ops.genai_rate_limits AS bucket (bucket, available, refilled_at)
VALUES (%(bucket)s, %(per_minute)s::numeric - %(amount)s, now())
ON CONFLICT (bucket) DO UPDATE
SET available = least(
        %(per_minute)s, bucket.available + %(per_minute)s * greatest(0, extract(epoch FROM now() - bucket.refilled_at)) / 60)
        - %(amount)s,
    refilled_at = greatest(bucket.refilled_at, now())
WHERE coalesce(bucket.paused_until <= now(), true)
  AND least(%(per_minute)s, bucket.available + %(per_minute)s * greatest(0, extract(epoch FROM now() - bucket.refilled_at)) / 60) > 0
RETURNING available

-- name: wait
SELECT greatest(
    extract(epoch FROM paused_until - now()),
    (1e-6 - (available + %(per_minute)s * extract(epoch FROM now() - refilled_at) / 60)) / %(per_minute)s * 60,
    0.05)::float8
FROM ops.genai_rate_limits WHERE bucket = %(bucket)s

-- name: pause
INSERT INTO ops.genai_rate_limits AS bucket (bucket, available, refilled_at, paused_until)
VALUES (%(bucket)s, 0, now(), now() + %(seconds)s * interval '1 second')
ON CONFLICT (bucket) DO UPDATE SET paused_until = greatest(bucket.paused_until, excluded.paused_until)

-- name: under_way
-- A batch that is being sent counts like one that runs: it may be.
SELECT count(*), coalesce(sum(estimated_tokens) FILTER (WHERE model = %(model)s), 0)
FROM ops.active_batches
WHERE mode = 'batch' AND status IN ('submitting', 'active') AND batch_id <> %(batch_id)s
