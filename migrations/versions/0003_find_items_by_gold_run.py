"""Find items by gold run."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("file_ingestions_gold_run_idx", "file_ingestions", ["gold_run_id"], unique=False, schema="ops")
