-- name: subjects
-- What a task was about, and what the tasks were about whose results it read.
WITH RECURSIVE asked AS (
    SELECT task_id, subject_table, subject_key, file_id, depends_on FROM silver.tasks_todo WHERE task_id = %(task_id)s
    UNION
    SELECT todo.task_id, todo.subject_table, todo.subject_key, todo.file_id, todo.depends_on
    FROM asked JOIN silver.tasks_todo AS todo ON todo.task_id = ANY (asked.depends_on)
)
SELECT subject_table, subject_key, file_id, depends_on FROM asked ORDER BY subject_table, subject_key
