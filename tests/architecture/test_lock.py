"""requirements.lock is what pyproject.toml asks for: judged offline, from the lock and from what is installed."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_pins() -> dict[str, Version]:
    return {canonicalize_name(name): Version(version) for name, version in PIN.findall(LOCK)}


def direct_requirements() -> list[Requirement]:
    return [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]


def closure(requirements: list[Requirement]) -> Iterator[tuple[str, Requirement]]:
    """Yield (who asks, requirement) for all that is needed here, following what is installed."""
    waiting = [("pyproject.toml", requirement) for requirement in requirements]
    seen: set[tuple[str, str, str]] = set()
    while waiting:
        asker, requirement = waiting.pop()
        key = (asker, requirement.name, str(requirement))
        if key in seen:
            continue
        seen.add(key)
        yield asker, requirement
        for text in requires(requirement.name) or []:
            inner = Requirement(text)
            wanted = [inner.marker is None or inner.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)]
            if any(wanted):
                waiting.append((requirement.name, inner))


def test_everything_needed_is_pinned_within_its_range() -> None:
    pins = read_pins()
    wrong = [
        f"{asker} needs {requirement}, the lock has {pins.get(canonicalize_name(requirement.name))}"
        for asker, requirement in closure(direct_requirements())
        if (pin := pins.get(canonicalize_name(requirement.name))) is None or not requirement.specifier.contains(pin, prereleases=True)
    ]
    assert not wrong, "run 'make lock': " + "; ".join(wrong)


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK)
    assert len(blocks) == len(PIN.findall(LOCK))
    assert [block.split("\n", 1)[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_lock_names_no_package_index() -> None:
    assert re.findall(r"(?:--\S*index\S*|--find-links|https?://|file:)\S*", LOCK) == []
