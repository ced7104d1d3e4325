-- name: claim
-- Two workers at once: one waits for nothing and gets no row. An expired lease is as good as none.
UPDATE silver.tasks_batches SET
    lease_token = gen_random_uuid(), lease_until = now() + %(seconds)s * interval '1 second', leased_by = %(worker)s,
    claims = claims + 1, updated_at = now()
WHERE batch_id = (
    SELECT batch_id FROM silver.tasks_batches
    WHERE task_key = %(task_key)s AND state = 'open' AND (lease_until IS NULL OR lease_until < now())
      AND (%(batch_id)s::bigint IS NULL OR batch_id = %(batch_id)s)
    ORDER BY batch_id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING batch_id, task_key, prompt_id, lease_token AS token, leased_by AS worker, claims

-- name: renew
-- Locks the batch until the transaction ends: what is written beside it is written by the holder of the lease.
UPDATE silver.tasks_batches SET lease_until = now() + %(seconds)s * interval '1 second', updated_at = now()
WHERE batch_id = %(batch_id)s AND lease_token = %(token)s AND state = 'open'

-- name: finish
UPDATE silver.tasks_batches
SET state = 'processed', lease_token = NULL, lease_until = NULL, leased_by = NULL, updated_at = now()
WHERE batch_id = %(batch_id)s AND lease_token = %(token)s AND state = 'open'

-- name: claimable
SELECT batch_id FROM silver.tasks_batches
WHERE task_key = %(task_key)s AND state = 'open' AND (lease_until IS NULL OR lease_until < now())
ORDER BY batch_id

-- name: forget_expired
UPDATE silver.tasks_batches SET lease_token = NULL, lease_until = NULL, leased_by = NULL, updated_at = now()
WHERE state = 'open' AND lease_until < now()

-- name: give_back
UPDATE silver.tasks_batches SET lease_token = NULL, lease_until = NULL, leased_by = NULL, updated_at = now()
WHERE batch_id = %(batch_id)s AND lease_token = %(token)s AND state = 'open'

-- name: forget_attempts
-- Of this worker, and without an outcome: a stop, or the death of the child that worked on them, interrupted them. What this worker
-- itself dies of stays, and counts.
DELETE FROM silver.tasks_status AS attempt
WHERE attempt.batch_id = %(batch_id)s AND attempt.event = 'attempt' AND attempt.worker = %(worker)s
  AND NOT EXISTS (
    SELECT FROM silver.tasks_status AS outcome
    WHERE outcome.batch_id = attempt.batch_id AND outcome.task_id = attempt.task_id AND outcome.event NOT IN ('attempt', 'discarded')
)
