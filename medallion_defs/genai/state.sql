-- What a batch is asked, by whom it is under way, and how it ended. Each change names the status it expects.

-- name: lock_budget
SELECT pg_advisory_xact_lock(hashtext('medallion genai budget'))

-- name: committed_usd
-- Spent on the day, or reserved and not settled yet, whenever that was.
SELECT coalesce(sum(coalesce(settled_usd, reserved_usd)), 0) AS all_usd,
       coalesce(sum(coalesce(settled_usd, reserved_usd)) FILTER (WHERE task_key = %(task_key)s), 0) AS task_usd
FROM ops.active_batches
WHERE (settled_usd IS NULL AND status <> 'cancelled') OR (settled_usd IS NOT NULL AND coalesce(submitted_at, created_at) >= %(day)s)

-- name: claim_records
INSERT INTO ops.inflight_records (record_key, batch_id)
SELECT record_key, %(batch_id)s FROM unnest(%(record_keys)s::text[]) AS record_key ORDER BY record_key
ON CONFLICT (record_key) DO NOTHING
RETURNING record_key

-- name: insert_batch
INSERT INTO ops.active_batches (
    batch_id, status, mode, task_key, prompt_id, tasks_batch_id, model, fingerprint, request_count, estimated_tokens, reserved_usd,
    deadline_at, created_at, updated_at)
VALUES (
    %(batch_id)s, 'reserved', %(mode)s, %(task_key)s, %(prompt_id)s, %(tasks_batch_id)s, %(model)s, %(fingerprint)s, %(request_count)s,
    %(estimated_tokens)s, %(reserved_usd)s, %(deadline_at)s, %(at)s, %(at)s)

-- name: insert_half
INSERT INTO ops.active_batches (
    batch_id, status, mode, task_key, prompt_id, tasks_batch_id, model, fingerprint, request_count, estimated_tokens, reserved_usd,
    deadline_at, created_at, updated_at)
SELECT %(batch_id)s, 'reserved', mode, task_key, prompt_id, tasks_batch_id, model, %(fingerprint)s, records,
       estimated_tokens * records / request_count, reserved_usd * records / request_count, deadline_at, created_at, %(at)s
FROM ops.active_batches, cardinality(%(record_keys)s::text[]) AS records
WHERE batch_id = %(whole)s

-- name: move_records
WITH moved AS (
    UPDATE ops.batch_record_keys SET batch_id = %(batch_id)s WHERE batch_id = %(whole)s AND record_key = ANY (%(record_keys)s)
)
UPDATE ops.inflight_records SET batch_id = %(batch_id)s WHERE batch_id = %(whole)s AND record_key = ANY (%(record_keys)s)

-- name: copy_record_keys
COPY ops.batch_record_keys (batch_id, record_key, task_id, attempt, item_token) FROM STDIN

-- name: read_batch
SELECT batch_id, created_at, status, mode, task_key, prompt_id, tasks_batch_id, model, fingerprint, request_count, estimated_tokens,
       reserved_usd, settled_usd, deadline_at, submit_attempts, submitted_at, retry_at, provider_name, provider_state, input_file, output_file,
       ended_at, error
FROM ops.active_batches WHERE batch_id = %(batch_id)s

-- name: list_batches
SELECT batch_id, created_at, status, mode, task_key, prompt_id, tasks_batch_id, model, fingerprint, request_count, estimated_tokens,
       reserved_usd, settled_usd, deadline_at, submit_attempts, submitted_at, retry_at, provider_name, provider_state, input_file, output_file,
       ended_at, error
FROM ops.active_batches
WHERE (%(statuses)s::text[] IS NULL OR status = ANY(%(statuses)s))
ORDER BY created_at, batch_id LIMIT %(limit)s

-- name: list_latest
SELECT batch_id, created_at, status, mode, task_key, prompt_id, tasks_batch_id, model, fingerprint, request_count, estimated_tokens,
       reserved_usd, settled_usd, deadline_at, submit_attempts, submitted_at, retry_at, provider_name, provider_state, input_file, output_file,
       ended_at, error
FROM ops.active_batches
WHERE %(task_key)s::text IS NULL OR task_key = %(task_key)s
ORDER BY created_at DESC, batch_id LIMIT %(limit)s

-- name: read_statuses
SELECT batch_id, status FROM ops.active_batches WHERE batch_id = ANY(%(batch_ids)s)

-- name: read_records
SELECT record_key, task_id, attempt, item_token FROM ops.batch_record_keys WHERE batch_id = %(batch_id)s

-- name: try_lock_batch
-- Of this session, until it ends: one process at a time sends, polls or collects a batch.
SELECT pg_try_advisory_lock(hashtext('medallion genai ' || %(batch_id)s))

-- name: unlock_batch
SELECT pg_advisory_unlock(hashtext('medallion genai ' || %(batch_id)s))

-- name: mark_submitting
UPDATE ops.active_batches
SET status = 'submitting', submit_attempts = submit_attempts + 1, submitted_at = %(at)s, input_file = %(input_file)s, retry_at = NULL,
    updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status IN ('reserved', 'submitting')

-- name: mark_refused
-- The provider said no, for certain: there is no job.
UPDATE ops.active_batches
SET status = 'reserved', updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status = 'submitting'

-- name: postpone
UPDATE ops.active_batches SET error = %(error)s, retry_at = %(retry_at)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status IN ('reserved', 'submitting')

-- name: note_unknown
UPDATE ops.active_batches SET error = %(error)s, retry_at = %(retry_at)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status = 'submitting'

-- name: mark_active
-- A batch that was refused may have a job all the same: the refusal came after the job.
UPDATE ops.active_batches
SET status = 'active', provider_name = %(provider_name)s, provider_state = NULL, error = NULL, retry_at = NULL,
    deadline_at = %(deadline_at)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND (status = 'submitting' OR (status = 'reserved' AND submit_attempts > 0))

-- name: note_state
UPDATE ops.active_batches SET provider_state = %(provider_state)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status = 'active' AND provider_state IS DISTINCT FROM %(provider_state)s

-- name: raise_reserve
UPDATE ops.active_batches SET reserved_usd = %(reserved_usd)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status IN ('reserved', 'submitting') AND reserved_usd < %(reserved_usd)s

-- name: mark_ended
UPDATE ops.active_batches
SET status = 'ended', provider_state = %(provider_state)s, output_file = %(output_file)s, error = %(error)s, ended_at = %(at)s,
    updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status IN ('reserved', 'submitting', 'active')

-- name: note_unfound
UPDATE ops.active_batches
SET provider_state = %(provider_state)s, error = %(error)s, ended_at = coalesce(ended_at, %(at)s), updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status = 'active'

-- name: hold
UPDATE ops.active_batches
SET status = 'held', provider_state = %(provider_state)s, error = %(error)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status IN ('active', 'ended')

-- name: resume
UPDATE ops.active_batches
SET status = %(status)s, error = NULL, ended_at = CASE WHEN %(status)s = 'ended' THEN ended_at END, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status = 'held'

-- name: hurry
UPDATE ops.active_batches SET deadline_at = %(at)s, updated_at = %(at)s WHERE batch_id = %(batch_id)s AND status = 'active'

-- name: mark_collected
UPDATE ops.active_batches SET status = 'collected', updated_at = %(at)s WHERE batch_id = %(batch_id)s AND status = 'ended'

-- name: mark_done
UPDATE ops.active_batches
SET status = CASE WHEN %(has_results)s THEN 'completed' ELSE 'failed' END, settled_usd = %(settled_usd)s, updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status IN ('collected', 'completed', 'failed')

-- name: mark_cancelled
UPDATE ops.active_batches
SET status = 'cancelled', settled_usd = %(settled_usd)s, error = coalesce(%(error)s, error), updated_at = %(at)s
WHERE batch_id = %(batch_id)s AND status = %(status)s AND status IN ('reserved', 'submitting', 'active', 'ended', 'held')

-- name: release_records
DELETE FROM ops.inflight_records
WHERE batch_id = %(batch_id)s AND (%(record_keys)s::text[] IS NULL OR record_key = ANY (%(record_keys)s))

-- name: count_failures
INSERT INTO ops.failure_counts AS counts (record_key, task_id, count, last_updated)
SELECT record_key, task_id, 1, %(at)s FROM unnest(%(record_keys)s::text[], %(task_ids)s::uuid[]) AS given(record_key, task_id)
ORDER BY record_key
ON CONFLICT (record_key) DO UPDATE
SET count = CASE WHEN counts.task_id = excluded.task_id THEN counts.count + 1 ELSE 1 END,
    task_id = excluded.task_id, last_updated = excluded.last_updated
RETURNING record_key, count

-- name: clear_failures
DELETE FROM ops.failure_counts WHERE record_key = ANY(%(record_keys)s)

-- name: clear_answered
DELETE FROM ops.failure_counts AS counts USING ops.batch_record_keys AS key
WHERE key.batch_id = %(batch_id)s AND counts.record_key = key.record_key AND counts.record_key <> ALL (%(failed)s::text[])

-- name: read_failures
SELECT record_key, counts.count
FROM unnest(%(record_keys)s::text[], %(task_ids)s::uuid[]) AS given(record_key, task_id)
JOIN ops.failure_counts AS counts USING (record_key, task_id)

-- name: insert_failure
INSERT INTO ops.failure_logs (
    record_key, batch_id, attempt_number, error_type, error_message, error_traceback, raw_response_text, extracted_text,
    raw_response_json, model_name, prompt_name, prompt_template, generation_config, created_at)
VALUES (
    %(record_key)s, %(batch_id)s, %(attempt_number)s, %(error_type)s, %(error_message)s, %(error_traceback)s, %(raw_response_text)s,
    %(extracted_text)s, %(raw_response_json)s, %(model_name)s, %(prompt_name)s, %(prompt_template)s, %(generation_config)s, %(at)s)
ON CONFLICT ON CONSTRAINT failure_logs_once_key DO NOTHING

-- name: cost_by_day
SELECT coalesce(submitted_at, created_at)::date AS day, task_key, model, mode, count(*) AS batches, sum(request_count) AS requests,
       coalesce(sum(settled_usd), 0) AS settled_usd, coalesce(sum(reserved_usd) FILTER (WHERE settled_usd IS NULL), 0) AS reserved_usd
FROM ops.active_batches WHERE status <> 'cancelled' OR settled_usd IS NOT NULL
GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2, 3, 4 LIMIT %(limit)s

-- name: read_failure_logs
SELECT record_key, batch_id, attempt_number, error_type, error_message, error_traceback, raw_response_text, extracted_text,
       raw_response_json, model_name, prompt_name, prompt_template, generation_config
FROM ops.failure_logs
WHERE (%(batch_id)s::text IS NULL OR batch_id = %(batch_id)s)
  AND (%(record_key)s::text IS NULL OR record_key = %(record_key)s)
  AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
ORDER BY id DESC LIMIT %(limit)s

-- name: read_parsed_batches
SELECT batch_id FROM ops.active_batches WHERE task_key = %(task_key)s AND status IN ('completed', 'failed') ORDER BY created_at
