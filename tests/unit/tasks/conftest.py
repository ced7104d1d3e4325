"""Runs one task on one item, as the engine would, without database."""

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from medallion_defs.labeling.contract import ProcessingResult, TaskContext, WorkItem

RunTask = Callable[..., ProcessingResult]
TASK_ID = UUID(int=1)


@pytest.fixture
def run_task(tmp_path: Path) -> RunTask:
    """`run_task(name, path or None, inputs=…, **changed parameters)`; what it stores is in `tmp_path/derived/{name}`."""

    def run(name: str, path: Path | None = None, inputs: Mapping[str, Any] | None = None, **changes: object) -> ProcessingResult:
        module = import_module(f"medallion_defs.tasks.{name}.task")
        spec = module.get_spec()
        profile = json.loads(Path(str(module.__file__)).with_name("prompt.json").read_text(encoding="utf-8"))
        folder = tmp_path / "derived" / name
        folder.mkdir(parents=True, exist_ok=True)
        subject = path.name if path else "text"
        item = WorkItem(TASK_ID, spec.task_key, spec.media_type, UUID(int=2), "0" * 64, "silver.x", subject, 1, path, inputs=inputs or {})
        result: ProcessingResult
        [result] = spec.processor([item], TaskContext({**profile.get("parameters", {}), **changes}, lambda task_id: folder))
        if result.output is not None:
            # The engine keeps an output as JSON, and refuses what does not fit the model.
            assert spec.output_model.model_validate_json(json.dumps(result.output)).model_dump(mode="json") == result.output
        return result

    return run


def output_of(result: ProcessingResult) -> Mapping[str, Any]:
    assert result.error is None, result.error
    assert result.output is not None
    return result.output
