"""What a batch reserves of the caps in dollars is never below zero: a negative reservation would raise the cap."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("UPDATE ops.active_batches SET reserved_usd = 0 WHERE reserved_usd < 0")
    op.create_check_constraint("active_batches_reserved_usd_check", "active_batches", "reserved_usd >= 0", schema="ops")


def downgrade() -> None:
    op.drop_constraint("active_batches_reserved_usd_check", "active_batches", schema="ops")
