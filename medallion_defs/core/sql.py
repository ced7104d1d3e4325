"""Named SQL: queries live in `.sql` files beside the module that runs them, never in f-strings.

A file holds blocks that open with `-- name: some_name`. `{identifiers}` in a block, if any, are filled with
`psycopg.sql.Identifier` by the caller; values are always bound parameters.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import LiteralString, cast

from medallion_defs.core.errors import ConfigurationError

_BLOCK = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load_queries(package: str, file_name: str) -> Mapping[str, LiteralString]:
    """Return `{name: query}` of one `.sql` file of `package`, in file order.

    The text is part of the installed package, hence the cast to `LiteralString`.

    Raises:
        ConfigurationError: the file has no named block, or names one twice.
    """
    text = (files(package) / file_name).read_text(encoding="utf-8")
    pieces = _BLOCK.split(text)[1:]
    names, bodies = pieces[::2], pieces[1::2]
    if not names or len(set(names)) != len(names):
        raise ConfigurationError(f"{package}/{file_name}: expected blocks '-- name: x', each name once; found {names}.")
    return MappingProxyType({name: cast("LiteralString", body.strip()) for name, body in zip(names, bodies, strict=True)})
