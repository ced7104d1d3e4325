"""Who may import whom: by the import contracts, and by looking at what each code location really loads."""

import ast
import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from medallion_defs.core.content import content_names
from tests.conftest import ROOT

PACKAGE = ROOT / "medallion_defs"
MODULES = sorted(PACKAGE.rglob("*.py"))


def loaded_modules(location: str) -> set[str]:
    """Return the modules that are loaded once the code location is, without database or network."""
    program = (
        "import json, socket, sys\n"
        "def refuse(*_): raise AssertionError('a code location opened a connection while it loaded')\n"
        "socket.socket.connect = refuse\n"
        f"import medallion_defs.locations.{location} as location\n"
        "import dagster as dg\n"
        "dg.Definitions.validate_loadable(location.defs)\n"
        "print(json.dumps(list(sys.modules)))\n"
    )
    environment = {"MEDALLION_ROOT": str(ROOT), "PATH": "/usr/bin:/bin", "DAGSTER_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("location", "foreign_layers", "foreign_files"),
    [
        ("bronze", {"silver", "gold", "enrichments"}, {"transform", "tables", "variants"}),
        ("silver", {"bronze", "gold", "enrichments"}, {"fetch"}),
        ("gold", {"bronze", "silver"}, {"fetch", "transform", "variants"}),
    ],
)
def test_a_location_loads_without_a_network_and_only_what_is_its_own(
    location: str, foreign_layers: set[str], foreign_files: set[str]
) -> None:
    loaded = loaded_modules(location)
    modules = [name.split(".") for name in loaded if name.startswith("medallion_defs")]
    allowed = {"medallion_defs.silver.contract"} if location == "gold" else set()
    assert {".".join(parts) for parts in modules if len(parts) > 2 and parts[1] in foreign_layers} <= allowed
    assert [parts for parts in modules if parts[1:2] in (["sources"], ["enrichments"]) and foreign_files & set(parts[3:])] == []
    others = {"bronze", "silver", "gold"} - {location}
    assert [parts for parts in modules if parts[1:2] == ["locations"] and parts[-1] in others] == []
    # What opens media and pages is large, and made for one kind of item: it is loaded when such an item comes.
    # (The client of the model, which bronze has, brings Pillow with it.)
    large = {"av", "trafilatura", "py3langid", "numpy"} | ({"PIL"} if location != "bronze" else set())
    assert loaded & large == set()


TRANSPORT = {f"medallion_defs.genai.{name}" for name in ("client", "submit", "poll", "collect", "online", "exchange")}


@pytest.mark.parametrize("location", ["silver", "gold"])
def test_only_bronze_has_what_talks_to_a_model(location: str) -> None:
    assert {name for name in loaded_modules(location) if name in TRANSPORT or name.startswith("google.genai")} == set()


def test_bronze_knows_neither_tasks_nor_what_reads_their_answers() -> None:
    parts = [name.split(".") for name in loaded_modules("bronze") if name.startswith("medallion_defs.")]
    assert [name for name in parts if name[1] in ("labeling", "tasks") or name[-1] == "transform"] == []


def test_the_import_contracts_hold() -> None:
    command = [str(Path(sysconfig.get_path("scripts")) / "lint-imports"), "--no-logo", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_package_files_are_empty() -> None:
    assert [str(path) for path in MODULES if path.name == "__init__.py" and path.read_bytes()] == []


def test_nothing_private_of_dagster_is_imported() -> None:
    imported = [
        (str(path.relative_to(ROOT)), name)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_names(node)
    ]
    private = [(path, name) for path, name in imported if name.startswith("dagster") and any(part[:1] == "_" for part in name.split("."))]
    assert len(imported) > 100
    assert private == []


def imported_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


@pytest.mark.parametrize(
    ("kind", "required", "optional"),
    [
        (
            "sources",
            {"__init__.py", "source.py", "fetch.py", "transform.py", "tables.py"},
            {
                "samples",
                "recipes",
                "variants",
                "subjects.py",
                "subjects.sql",
                "files.py",
                "packets.py",
                "stream_ends.py",
                "decoding.py",
                "levels.py",
                "page_encoding.py",
                "page_tree.py",
            },
        ),
        ("tasks", {"__init__.py", "task.py", "prompt.json"}, {"samples", "subjects.sql", "near_duplicates.sql"}),
        ("enrichments", {"__init__.py", "enrichment.py", "tables.py", "enrich.sql"}, {"samples"}),
    ],
)
def test_a_content_folder_holds_the_known_files_and_no_others(kind: str, required: set[str], optional: set[str]) -> None:
    for name in content_names(f"medallion_defs.{kind}"):
        present = {entry.name for entry in (PACKAGE / kind / name).iterdir()} - {"__pycache__"}
        assert present - optional == required, f"{kind}/{name}"
