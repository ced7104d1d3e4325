"""Changes one place of the code at a time, and asks the tests whether they notice: `make mutants`.

Cosmic Ray finds the places in Python files and makes the change; queries in `.sql` files are changed by the table below. A
seeded sample is taken over all files of `targets.toml`. The tests of a file are run without a change first: they must pass, and
how long they take sets the limit. Each change is then made in a copy of the checkout, and the tests are run there until one fails.
A change that no test notices has **survived**: a test is missing, or the change has no effect, which `equivalent.toml` then says
with the reason.

Runs in the environment of `requirements.txt`, and runs the tests with the project's own Python.
"""

import argparse
import difflib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
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
# The place is at the `|`: values that are frozen, and the star before parameters that are given by name.
FOR_TYPES = re.compile(r"frozen=\||\|\*,")
SWAPS = {
    "<=": "<", ">=": ">", "<": "<=", ">": ">=", "=": "<>", "<>": "=", "AND": "OR", "OR": "AND", "greatest": "least",
    "least": "greatest", "min": "max", "max": "min", "IS NULL": "IS NOT NULL", "IS NOT NULL": "IS NULL",
    "IS DISTINCT FROM": "IS NOT DISTINCT FROM", "NOT EXISTS": "EXISTS", "+": "-", "DESC": "ASC", " - ": " + ",
    "SKIP LOCKED": "NOWAIT",
}  # fmt: skip
# No part of `->>` or `=>`.
TOKEN = re.compile(
    "|".join(rf"\b{word}\b" if word[0].isalpha() else rf"(?<![-<>=!]){re.escape(word)}(?![<>=])" for word in sorted(SWAPS, key=len)[::-1])
)
# The = of an assignment and the AND of BETWEEN: a query that cannot be parsed says nothing of the tests.
SPARED = re.compile(r"(?:^\s*|SET |, )(?:[a-z_]+|\(\{columns\}\)) = |BETWEEN .*? AND")
# An unchanged run may take this much longer than it did at first before it is stopped: the machine may be busier by then.
PATIENCE, GRACE_SECONDS = 4, 60


@dataclass(frozen=True)
class Mutant:
    """One change: the file's path, what distinguishes it there, how the text is changed, and the tests that should notice."""

    path: str
    place: str
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
    def is_code(self) -> bool:
        """Whether Python can read the text: Cosmic Ray takes the `*` in a list of parameters for an operator."""
        if self.path.endswith(".py"):
            with suppress(SyntaxError):
                compile(self.text, self.path, "exec")
                return True
        return self.path.endswith(".sql")

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
    """Yield every change that Cosmic Ray's operators make in a module, but for what only the type checker reads."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines, nodes = source.splitlines(), list(ast_nodes(get_ast(source)))
    for name in operator_names():
        operator_class = get_operator(name)
        if LEFT_OUT.search(name) or operator_class.arguments():
            continue
        places = [start for node in nodes for start, _ in operator_class().mutation_positions(node)]
        for occurrence, (row, column) in enumerate(places):
            if not FOR_TYPES.search(lines[row - 1][:column] + "|" + lines[row - 1][column:]):
                yield Mutant(path, f"{name} {occurrence}", partial(_apply, operator_class, occurrence), tests)


def _apply(operator_class: type, occurrence: int, source: str) -> str:
    return mutate_code(source, operator_class(), occurrence) or source


def sql_mutants(path: str, tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Yield the changes of one operator of a query into another; comments stay."""
    at = 0
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(keepends=True)):
        code = SPARED.sub(lambda found: "_" * len(found[0]), line.partition("--")[0])
        for found in TOKEN.finditer(code):
            yield Mutant(path, f"{number}.{found.start()}", partial(_replace, at + found.start(), at + found.end()), tests)
        at += len(line)


def _replace(start: int, end: int, source: str) -> str:
    return source[:start] + SWAPS[source[start:end]] + source[end:]


def all_mutants() -> list[Mutant]:
    """Return the changes of all targets."""
    found: list[Mutant] = []
    for target in tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))["target"]:
        for path in target["files"]:
            make = sql_mutants if path.endswith(".sql") else python_mutants
            found += make(path, tuple(target["tests"]))
    return found


def choose(candidates: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """Return a sample, grouped by tests. Each place has its own draw: what changes elsewhere leaves it in the sample or out of it."""

    def draw(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.path} {mutant.place}".encode()).digest()

    drawn = (mutant for mutant in sorted(candidates, key=draw) if mutant.is_code)
    return sorted(islice(drawn, count), key=lambda mutant: mutant.tests)


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

    def run(self, tests: tuple[str, ...], timeout: float) -> tuple[str, float]:
        """Run tests as the code is; return how it ended, and the seconds."""
        folder, start = self._free.get(), time.monotonic()
        try:
            return run_tests(folder, tests, timeout), time.monotonic() - start
        finally:
            self._free.put(folder)

    def attempt(self, mutant: Mutant, timeout: float) -> str:
        """Run the mutant's tests with its change; return how it ended."""
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


def run_tests(folder: Path, tests: tuple[str, ...], timeout: float) -> str:
    """Run tests in a copy until one fails; return "passed", "failed" or "stopped" (after `timeout` seconds)."""
    command = [
        str(ROOT / ".venv/bin/python"), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "timeout=0", *tests,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(folder)}
    shared = ROOT.parent / "shared" / "data"
    environment.setdefault("MEDALLION_SHARED_DATA", str(shared))
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return "failed" if process.wait(timeout) else "passed"
    except subprocess.TimeoutExpired:
        _stop(process)
        return "stopped"
    except BaseException:
        _stop(process)
        raise


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Interrupt, so that the tests stop the servers that they started; kill what does not listen."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(copies: Copies, pool: ThreadPoolExecutor, suites: list[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    """Run each list of tests without a change; return the seconds after which a run of it with one is stopped.

    Raises:
        SystemExit: tests fail as the code is, so they can say nothing of a change.
    """
    limits = {}
    for tests, (ending, seconds) in zip(suites, pool.map(lambda tests: copies.run(tests, 1800), suites), strict=True):
        if ending != "passed":
            raise SystemExit(f"Without any change these tests have {ending}; run them by hand first: pytest {' '.join(tests)}")
        limits[tests] = PATIENCE * seconds + GRACE_SECONDS
        print(f"{seconds:4.0f} s without a change: {' '.join(tests)}", flush=True)
    return limits


def run(count: int, seed: int, workers: int, minutes: float, only: list[str]) -> int:
    """Try a sample, print what survived, and return the exit code: 1 below nine tenths killed."""
    end, lived, stopped, done = time.monotonic() + minutes * 60, list[Mutant](), 0, 0
    equivalent = tomllib.loads((HERE / "equivalent.toml").read_text(encoding="utf-8"))
    candidates = all_mutants()
    sample = [mutant for mutant in choose(candidates, count, seed) if not only or any(word in mutant.name for word in only)]
    tried = [mutant for mutant in sample if mutant.name not in equivalent]
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place,
        ThreadPoolExecutor(workers) as pool,
    ):
        copies = Copies([make_copy(Path(place) / str(number)) for number in range(workers)])
        limits = measure(copies, pool, list(dict.fromkeys(mutant.tests for mutant in tried)))

        def attempt(mutant: Mutant) -> tuple[Mutant, str]:
            return mutant, copies.attempt(mutant, limits[mutant.tests]) if time.monotonic() < end else "left out"

        for mutant, ending in pool.map(attempt, tried):
            done += ending != "left out"
            stopped += ending == "stopped"
            if ending == "passed":
                lived.append(mutant)
            if ending in ("passed", "stopped"):
                print(f"\n{'SURVIVED' if ending == 'passed' else 'STOPPED'} {mutant.name}\n{mutant.diff}", flush=True)
    killed, known, left = done - len(lived), len(sample) - len(tried), len(tried) - done
    print(
        f"\n{len(candidates)} places; seed {seed}; {done} of {len(sample)} tried, {killed} killed ({killed / max(done, 1):.1%}), "
        f"{stopped} of them by taking {PATIENCE} times as long as unchanged code; {len(lived)} survived, {known} known to change nothing, "
        f"{left} left out for lack of time"
    )
    return int(killed < 0.9 * done)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="changes to try (default 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=60, help="what is not begun by then is left out, and said")
    parser.add_argument("--only", nargs="*", default=[], help="of the sample, only changes whose name (path:digest) contains one of these")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started with `&` it would be ignored, here and by the tests
    return run(options.count, options.seed, options.workers, options.minutes, options.only)


if __name__ == "__main__":
    sys.exit(main())
