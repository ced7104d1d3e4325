"""What Dagster's page renders as Markdown is made by `core/markdown.py` alone, so that no delivered text is rendered as it came."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "medallion_defs"
MAKERS = {"escape", "code", "fill", "join", "table", "Markdown"}
RENDERED_DESCRIPTIONS = {"AssetCheckResult", "AssetCheckEvaluation", "AssetObservation", "AssetMaterialization"}
"""Of these the page renders `description` as Markdown."""


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def vouched_by_hand(tree: ast.Module) -> list[str]:
    """Return the calls of `Markdown(…)` on something that does not stand in the code."""
    imported = any(
        isinstance(node, ast.ImportFrom) and node.module == "medallion_defs.core.markdown" and any(a.name == "Markdown" for a in node.names)
        for node in ast.walk(tree)
    )
    found = [node for name, node in calls(tree) if name.split(".")[-1] == "Markdown" and (imported or "markdown." in name)]
    return [ast.unparse(node) for node in found if not all(isinstance(argument, ast.Constant) for argument in node.args)]


def unescaped_descriptions(tree: ast.Module) -> list[str]:
    makers = MAKERS | {
        node.name for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns) == "Markdown"
    }  # fmt: skip
    found = []
    for name, call in calls(tree):
        for keyword in call.keywords:
            if name.split(".")[-1] in RENDERED_DESCRIPTIONS and keyword.arg == "description":
                value = keyword.value
                is_made = isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in makers
                if not is_made and not isinstance(value, ast.Constant):
                    found.append(ast.unparse(call))
    return found


def test_only_the_manifest_hands_markdown_to_dagster() -> None:
    """There mypy sees to it that it is of the type `Markdown`."""
    users = {str(path.relative_to(ROOT)) for path, tree in modules() for name, _ in calls(tree) if name.endswith("MetadataValue.md")}
    assert users == {"medallion_defs/ops/manifest.py"}


def test_text_becomes_markdown_by_being_escaped() -> None:
    found = {str(path.relative_to(ROOT)): wrong for path, tree in modules() if (wrong := vouched_by_hand(tree))}
    assert set(found) <= {"medallion_defs/core/markdown.py"}, found


def test_descriptions_of_events_are_escaped() -> None:
    found = {str(path.relative_to(ROOT)): wrong for path, tree in modules() if (wrong := unescaped_descriptions(tree))}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "dg.AssetCheckResult(passed=False, description=error)",
        "dg.AssetCheckResult(passed=False, description=f'{error}')",
        "dg.AssetObservation(asset_key='a', description=str(error))",
    ],
)
def test_a_description_that_is_not_escaped_is_found(source: str) -> None:
    assert unescaped_descriptions(ast.parse(source))


def test_a_text_that_is_only_called_markdown_is_found() -> None:
    assert vouched_by_hand(ast.parse("from medallion_defs.core.markdown import Markdown\nMarkdown(f'**{name}**')"))
