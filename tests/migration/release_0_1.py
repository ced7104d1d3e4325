"""A database of release 0.1, as its own code left it: `data/release_0_1.sql.gz`, synthetic, restored into the tests' server.

Loaded: articles, a company, events in JSON Lines and CSV, a picture. Dead: a file without a recipe, one of rubbish, one without its header,
an empty video, a picture that cannot be decoded (a task), an article that the model refused (paid), a batch of answers.
"""

import gzip
import subprocess
from pathlib import Path

from medallion_defs.stack.postgres import EmbeddedPostgres, binaries
from tests.conftest import create_database

_DUMP = Path(__file__).parent / "data" / "release_0_1.sql.gz"
REVISION = "0014"


def restore(server: EmbeddedPostgres, name: str) -> str:
    """Create the database `name` from the dump; return its URL."""
    create_database(server, name, template="template0")
    url = server.url(name)
    command = [str(binaries() / "psql"), "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", url]
    subprocess.run(command, input=gzip.decompress(_DUMP.read_bytes()), check=True, capture_output=True)
    return url
