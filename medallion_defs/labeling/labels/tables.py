"""`gold.media_labels`: what holds now for each input that a task was asked about. Written by `build.py` alone.

One row per input, known by its bytes; which subjects have these bytes now is said by the view of the task (`views.py`).
The key has the collation of the silver columns that it is joined with: with another, no index on those can be used.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Index, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB, UUID

METADATA = MetaData()

MEDIA_LABELS = Table(
    "media_labels",
    METADATA,
    Column("task_key", Text, primary_key=True),
    Column("media_type", Text, primary_key=True),
    Column("file_hash", Text, primary_key=True, comment="sha256 of the input"),
    Column("task_id", UUID(as_uuid=True), nullable=False, comment="the answer that holds, or that a person's verdict stands instead of"),
    Column("prompt_id", Text, nullable=False, comment="profile that gave the answer"),
    Column("subject_table", Text, nullable=False, comment="of the subject that was asked about; others may have the same bytes"),
    Column("subject_key", Text, nullable=False),
    Column("file_id", UUID(as_uuid=True), nullable=False, comment="bronze item of that subject"),
    Column("source", Text, nullable=False, comment="who said so: model, processor or verdict"),
    Column("output", JSONB, nullable=False),
    Column("verdict_id", BigInteger, comment="the verdict that holds; NULL: the answer does"),
    # How far gold has come, and what it knew: all of it a function of silver, so that a rebuild gives the same.
    Column("result_change_seq", BigInteger, nullable=False, comment="newest answer to the input that was looked at"),
    Column("verdict_change_seq", BigInteger, comment="newest verdict on the input that was looked at, those that hold no more included"),
    Column("prompt_order", Text, nullable=False, comment="hash of the profiles that count, in their order"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when the row was first written"),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()"), comment="when what it says last changed"),
    CheckConstraint("source IN ('model', 'processor', 'verdict')", name="media_labels_source_check"),
    CheckConstraint("(source = 'verdict') = (verdict_id IS NOT NULL)", name="media_labels_verdict_check"),
    schema="gold",
)  # fmt: skip
Index("media_labels_result_change_seq_idx", MEDIA_LABELS.c.result_change_seq)
Index("media_labels_verdict_change_seq_idx", MEDIA_LABELS.c.verdict_change_seq, postgresql_where=text("verdict_change_seq IS NOT NULL"))
Index("media_labels_prompt_order_idx", MEDIA_LABELS.c.task_key, MEDIA_LABELS.c.prompt_order)
Index("media_labels_task_id_idx", MEDIA_LABELS.c.task_id)
Index("media_labels_file_id_idx", MEDIA_LABELS.c.file_id)
