"""Changes one place of the code at a time, and asks the tests whether they notice: `make mutants`.

Cosmic Ray finds the places in Python files and makes the change; queries in `.sql` files are changed by the table below. A
seeded sample is taken over all files of `targets.toml`. Each change is made in a copy of the checkout, and the tests that
`targets.toml` names for the file are run there until one fails. A change that no test notices has **survived**: a test is
missing, or the change has no effect, which `equivalent.toml` then says with the reason.

Runs in the environment of `requirements.txt`, and runs the tests with the project's own Python.
"""

import argparse
import difflib
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from queue import SimpleQueue

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Changes that say little of the tests: those that stop the import (type hints, decorators), and operators that are seldom confused.
LEFT_OUT = re.compile(
    r"Bit(Or|And|Xor)|[LR]Shift|Pow|Mod|Decorator|NoOp|VariableReplacer|VariableInserter|ExceptionReplacer|(Eq|Lt|Gt|LtE|GtE)_Is(Not)?$"
)
ASSIGNMENT = re.compile(r"^\s*[a-z_]+ = [^=]*,?$")
SWAPS = {
    "<=": "<", ">=": ">", "<": "<=", ">": ">=", "=": "<>", "<>": "=", "AND": "OR", "OR": "AND", "greatest": "least",
    "least": "greatest", "min": "max", "max": "min", "IS NULL": "IS NOT NULL", "IS NOT NULL": "IS NULL",
    "IS DISTINCT FROM": "IS NOT DISTINCT FROM", "NOT EXISTS": "EXISTS", "+": "-", "DESC": "ASC", " - ": " + ",
    "SKIP LOCKED": "NOWAIT", "DO NOTHING": "DO SELECT",
}  # fmt: skip
TOKEN = re.compile("|".join(rf"\b{word}\b" if word[0].isalpha() else re.escape(word) for word in sorted(SWAPS, key=len, reverse=True)))


@dataclass(frozen=True)
class Mutant:
    """One change: the file's path, how its text is changed, and the tests that should notice."""

    path: str
    change: Callable[[str], str]
    tests: tuple[str, ...]

    @cached_property
    def source(self) -> str:
        return (ROOT / self.path).read_text(encoding="utf-8")

    @cached_property
    def text(self) -> str:
        """The file after the change."""
        return self.change(self.source)

    @property
    def diff(self) -> str:
        lines = difflib.unified_diff(self.source.splitlines(), self.text.splitlines(), self.path, self.path, lineterm="", n=1)
        return "\n".join(lines)

    @property
    def name(self) -> str:
        """A name that stays while the changed lines do, wherever they stand in the file."""
        changed = "\n".join(line for line in self.diff.splitlines()[2:] if not line.startswith("@@"))
        return f"{self.path}:{hashlib.sha256(changed.encode()).hexdigest()[:10]}"


def python_mutants(path: str, tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Yield every change that Cosmic Ray's operators make in a module."""
    nodes = list(ast_nodes(get_ast((ROOT / path).read_text(encoding="utf-8"))))
    for name in operator_names():
        operator_class = get_operator(name)
        if LEFT_OUT.search(name) or operator_class.arguments():
            continue
        places = sum(len(list(operator_class().mutation_positions(node))) for node in nodes)
        for occurrence in range(places):
            yield Mutant(path, partial(_apply, operator_class, occurrence), tests)


def _apply(operator_class: type, occurrence: int, source: str) -> str:
    return mutate_code(source, operator_class(), occurrence) or source


def sql_mutants(path: str, tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Yield the changes of one operator of a query into another; comments stay."""
    at = 0
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines(keepends=True):
        code = line.partition("--")[0]
        for found in TOKEN.finditer("" if ASSIGNMENT.match(code) else code):
            yield Mutant(path, partial(_replace, at + found.start(), at + found.end()), tests)
        at += len(line)


def _replace(start: int, end: int, source: str) -> str:
    return source[:start] + SWAPS[source[start:end]] + source[end:]


def all_mutants(only: str) -> list[Mutant]:
    """Return the changes of all targets whose path contains `only`."""
    targets = tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))["target"]
    found: list[Mutant] = []
    for target in targets:
        for path in filter(lambda path: only in path, target["files"]):
            make = sql_mutants if path.endswith(".sql") else python_mutants
            found += make(path, tuple(target["tests"]))
    return found


def make_copy(folder: Path) -> Path:
    """Copy what git tracks, and what it would."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


class Copies:
    """Copies of the checkout, one for each worker; each mutant has one to itself."""

    def __init__(self, folders: list[Path]) -> None:
        self._free: SimpleQueue[Path] = SimpleQueue()
        for folder in folders:
            self._free.put(folder)
        # Python believes a compiled file whose source has the same second and size: each change gets a second of its own.
        self._second = int(time.time())

    def survives(self, mutant: Mutant, timeout: float) -> bool:
        """Tell whether the mutant's tests pass with its change."""
        folder = self._free.get()
        try:
            self._write(folder / mutant.path, mutant.text)
            return run_tests(folder, mutant.tests, timeout)
        finally:
            self._write(folder / mutant.path, mutant.source)
            self._free.put(folder)

    def _write(self, path: Path, text: str) -> None:
        self._second += 1
        path.write_text(text, encoding="utf-8")
        os.utime(path, (self._second, self._second))


def run_tests(folder: Path, tests: tuple[str, ...], timeout: float) -> bool:
    """Run tests in a copy until one fails; whether all passed. Too long counts as a failure."""
    command = [
        str(ROOT / ".venv/bin/python"), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=60", *tests,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(folder)}
    shared = ROOT.parent / "shared" / "data"
    environment.setdefault("MEDALLION_SHARED_DATA", str(shared))
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(timeout) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 15)
        process.wait()
        return False


def run(count: int, seed: int, workers: int, minutes: float, only: str) -> int:
    """Try a sample, print what survived, and return the exit code: 1 below nine tenths killed."""
    equivalent = tomllib.loads((HERE / "equivalent.toml").read_text(encoding="utf-8"))
    candidates = all_mutants(only)
    sample = random.Random(seed).sample(candidates, min(count, len(candidates)))
    tried = [mutant for mutant in sample if mutant.name not in equivalent]
    end, lived, done = time.monotonic() + minutes * 60, list[Mutant](), 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        copies = Copies([make_copy(Path(place) / str(number)) for number in range(workers)])

        def attempt(mutant: Mutant) -> tuple[Mutant, bool | None]:
            left = end - time.monotonic()
            return mutant, copies.survives(mutant, min(left, 300)) if left > 0 else None

        with ThreadPoolExecutor(workers) as pool:
            for mutant, survived in pool.map(attempt, tried):
                done += survived is not None
                if survived:
                    lived.append(mutant)
                    print(f"\nSURVIVED {mutant.name}\n{mutant.diff}", flush=True)
    killed = done - len(lived)
    print(
        f"\n{len(candidates)} places; seed {seed}; {done} of {len(sample)} tried, {killed} killed ({killed / max(done, 1):.1%}), "
        f"{len(lived)} survived, {len(sample) - len(tried)} known to change nothing, {len(tried) - done} left out for lack of time"
    )
    return int(killed < 0.9 * done)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="changes to try (default 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60, help="what is not tried by then is left out, and said")
    parser.add_argument("--only", default="", help="only files whose path contains this")
    options = parser.parse_args()
    return run(options.count, options.seed, options.workers, options.minutes, options.only)


if __name__ == "__main__":
    sys.exit(main())
