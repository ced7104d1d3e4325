"""What `make mutants` changes and runs is there: a module that was split or renamed is named again in `targets.toml`."""

import tomllib

from tests.conftest import ROOT

FOLDER = ROOT / "tests" / "mutation"


def test_every_file_and_test_that_the_targets_name_is_there() -> None:
    targets = tomllib.loads((FOLDER / "targets.toml").read_text(encoding="utf-8"))["target"]
    named = [path for target in targets for path in (*target["files"], *target["tests"])]
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_change_that_is_known_to_have_no_effect_is_of_a_target() -> None:
    targets = tomllib.loads((FOLDER / "targets.toml").read_text(encoding="utf-8"))["target"]
    known = tomllib.loads((FOLDER / "equivalent.toml").read_text(encoding="utf-8"))
    assert {name.partition(":")[0] for name in known} <= {path for target in targets for path in target["files"]}
