-- name: hand_over
-- The model has the batch now: nobody holds a lease while the provider works.
UPDATE silver.tasks_batches
SET state = 'asked', lease_token = NULL, lease_until = NULL, leased_by = NULL, updated_at = now()
WHERE batch_id = %(batch_id)s AND lease_token = %(token)s AND state = 'open'
