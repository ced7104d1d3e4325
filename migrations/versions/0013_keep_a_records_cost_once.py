"""What a record's answer cost is in its event in silver.tasks_status: ops.batch_record_keys says it no more."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("batch_record_keys", "cost_usd", schema="ops")


def downgrade() -> None:
    op.add_column("batch_record_keys", sa.Column("cost_usd", sa.Numeric(18, 10)), schema="ops")
