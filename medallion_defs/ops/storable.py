"""Text that came from outside as Postgres can keep it. Pure."""


def storable_text(text: str) -> str:
    """Replace what Postgres text cannot hold: NUL, and halves of surrogate pairs (file names that are not UTF-8)."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "␀")
