"""Commands on alerts: `alerts test`."""

from urllib.parse import urlsplit

import typer

from medallion_defs.bronze.posting.webhook import post_text
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import load_settings

app = typer.Typer(help="Posts to your webhook about what is late or failed.", no_args_is_help=True)


@app.callback()
def alerts() -> None:
    """Posts to your webhook about what is late or failed."""


@app.command()
def test() -> None:
    """Post a test message to the webhook, and say what the server answered."""
    url = load_settings().alerts.webhook_url
    if url is None:
        raise ConfigurationError("No webhook is set. Export MEDALLION_ALERTS__WEBHOOK_URL, or set alerts.webhook_url in medallion.yaml.")
    answer = post_text(url.get_secret_value(), "Medallion can post here: a test from 'medallion alerts test'.")
    typer.echo(f"The webhook at {urlsplit(url.get_secret_value()).hostname} answered: {answer}")
