"""JSON Schemas of every source's bronze input and silver row, and of the manifest of a run, under docs/reference/schemas/.

`python -m medallion_defs.silver.schemas --write` writes them; without `--write` it says which are stale.
Sources are found by looking, as the locations do.
"""

import argparse
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any

import msgspec

from medallion_defs.core.content import load_content
from medallion_defs.ops.run_manifest import Manifest

FOLDER = Path("docs/reference/schemas")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def build_schemas(package: str = "medallion_defs.sources") -> dict[str, str]:
    """Return `{file name: JSON text}`: `{source}.row.json`, `{source}.input.json` of sources of records, and `run.manifest.json`."""
    made = {"run.manifest.json": _format({"$schema": _DIALECT, **Manifest.model_json_schema(mode="serialization")})}
    for name, module in load_content(package, "transform").items():
        made[f"{name}.row.json"] = _schema_text(module.Row)
        if hasattr(module, "Input"):
            made[f"{name}.input.json"] = _schema_text(module.Input)
    return made


def _schema_text(struct: type[msgspec.Struct]) -> str:
    schema = {"$schema": _DIALECT, **msgspec.json.schema(struct)}
    for definition in schema["$defs"].values():
        # Python 3.13 dedents docstrings itself; cleaned, the text is the same on all versions.
        definition["description"] = cleandoc(definition["description"])
    return _format(schema)


def _format(schema: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def find_stale(folder: Path, schemas: dict[str, str]) -> list[str]:
    """Return the names of schemas whose file is absent or differs, and of files that are no schema any more."""
    stale = [name for name, text in schemas.items() if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text]
    return sorted([*stale, *(entry.name for entry in folder.glob("*.json") if entry.name not in schemas)])


def write_schemas(folder: Path, schemas: dict[str, str]) -> None:
    """Write all schemas into `folder` and remove what is none."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.glob("*.json"):
        if entry.name not in schemas:
            entry.unlink()
    for name, text in schemas.items():
        (folder / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Run from the project folder. Returns 1 when something is stale and `--write` was not given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files")
    schemas = build_schemas()
    if parser.parse_args().write:
        write_schemas(FOLDER, schemas)
    stale = find_stale(FOLDER, schemas)
    if stale:
        sys.stderr.write(f"Stale in {FOLDER}: {', '.join(stale)}. Run 'python -m medallion_defs.silver.schemas --write'.\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
