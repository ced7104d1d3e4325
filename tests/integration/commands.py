"""The command line in this process, and what the sensors would do meanwhile."""

from typer.testing import CliRunner, Result

from medallion_defs.cli import main as cli
from medallion_defs.core.settings import Settings
from medallion_defs.locations.silver import load_contents
from medallion_defs.silver.load_run import load_batch
from medallion_defs.silver.wanted import Wanted, which_batches


def call(*words: str) -> Result:
    """Run `medallion` with these words."""
    return CliRunner().invoke(cli.app, words)


def load_pending(settings: Settings, run_id: str = "test") -> None:
    """Load into silver what is pending in every source."""
    for content in load_contents():
        for batch_id in which_batches(settings, content, Wanted()):
            load_batch(settings, content, batch_id, run_id)
