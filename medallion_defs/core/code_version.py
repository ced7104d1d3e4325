"""Code versions: what tells that the same bytes might give something else than they did. All of the project's are made here.

A version covers the code of the content that can be reached from its entry (a transform, a task), and what the caller adds: a recipe,
a table, the number of the engine's own reading, which is raised by hand when that really changes. The code is compared as Python
understands it: formatting, comments, docstrings, the order of definitions, and the module that one stands in, change nothing.
What is reached outside of content folders (the engine, libraries) counts by its name alone.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

CONTENT = ("medallion_defs.sources", "medallion_defs.tasks")
_PROJECT = "medallion_defs."
_RESOURCE = re.compile(r"[\w-][\w.-]{0,99}")
_SQL_COMMENT = re.compile(rb"^\s*--(?! name:).*$", re.MULTILINE)
# What differs between versions of Python, or only between ways to write the same.
_NO_FIELDS = frozenset({"kind", "type_comment", "type_ignores", "ctx"})


@dataclass(frozen=True)
class CodeVersions:
    """The versions of the present code for the files that it may meet.

    Attributes:
        by_pattern: pattern of a bare file name and the version for such files; the first that fits counts.
        otherwise: the version for a file that no pattern fits.
    """

    by_pattern: tuple[tuple[str, str], ...]
    otherwise: str

    def of(self, filename: str) -> str:
        """Return the version for a file of this name."""
        return next((version for pattern, version in self.by_pattern if fits(filename, pattern)), self.otherwise)

    @property
    def known(self) -> list[str]:
        """All versions, each once, sorted."""
        return sorted({self.otherwise, *(version for _, version in self.by_pattern)})

    @property
    def digest(self) -> str:
        """One version for everything: it changes when that of any file might."""
        return make_version("versions", *(text for pair in self.by_pattern for text in pair), self.otherwise)


def as_versions(code: CodeVersions | str) -> CodeVersions:
    """Return the versions of code that has one for every file, which may be given as text."""
    return CodeVersions((), code) if isinstance(code, str) else code


def make_version(*parts: object) -> str:
    """Return 16 hex digits that change with any of the parts."""
    digest = hashlib.sha256(b"code-version-3")
    for part in parts:
        text = str(part).encode()
        digest.update(f"\n{len(text)}\n".encode() + text)
    return digest.hexdigest()[:16]


def bare_name(filename: str) -> str:
    """Return the file's name without folders and `.gz`, in lower case."""
    return PurePosixPath(filename).name.lower().removesuffix(".gz")


def fits(filename: str, pattern: str) -> bool:
    """Whether a pattern (`*` and `?`, upper and lower case alike) is for a file of this name."""
    return fnmatchcase(bare_name(filename), pattern.lower())


def digest_code(*entries: Any) -> str:
    """Return a digest of all content code that functions or classes can reach.

    Args:
        entries: each with its `__module__` and `__qualname__`. One that its module does not define counts as the whole module.
    """
    reached = _Reached()
    for entry in entries:
        reached.add(entry.__module__, entry.__qualname__.partition(".")[0])
    return make_version("code", *sorted(reached.texts))


@dataclass
class _Module:
    """A parsed module. `definitions`: statements by the name that they bind; `others`: what runs at import and binds none."""

    name: str
    folder: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    others: list[ast.stmt] = field(default_factory=list)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


class _Reached:
    """What was reached so far, as text, over all content modules."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._modules: dict[str, _Module | None] = {}
        self._seen: set[tuple[str, str | None]] = set()
        self._roots = {f"{package}." for package in CONTENT}

    def add(self, module_name: str, name: str | None) -> None:
        """Take in what `name` is in a module, and what that reaches; None is the whole module."""
        if not module_name.startswith(_PROJECT):
            self._roots.add(f"{module_name.partition('.')[0]}.")
        waiting = [(module_name, name)]
        while waiting:
            place = waiting.pop()
            if place not in self._seen:
                self._seen.add(place)
                waiting += self._take(*place)

    def _take(self, module_name: str, name: str | None) -> Iterator[tuple[str, str | None]]:
        module = self._module(module_name)
        if module is None:
            return
        if name is None:
            yield from ((module_name, each) for each in module.definitions)
        elif name in module.imports:
            yield from self._imported(*module.imports[name])
        elif name not in module.definitions:
            yield (module_name, None)
        statements = [*module.others, *module.definitions.get(name or "", ())]
        for statement in statements:
            self.texts.add(_as_text(statement))
            self.texts.update(_resources(statement, module.folder))
            yield from ((module_name, used) for used in _names(statement) if used in module.definitions or used in module.imports)

    def _imported(self, module_name: str, name: str | None) -> Iterator[tuple[str, str | None]]:
        if name is not None and self._is_content(f"{module_name}.{name}") and self._module(f"{module_name}.{name}"):
            yield (f"{module_name}.{name}", None)
        elif self._is_content(module_name):
            yield (module_name, name)
        else:
            # A module of the project may move; a library's is part of what the name means.
            where = "" if module_name.startswith(_PROJECT) else module_name
            self.texts.add(f"import {where} {name}")

    def _is_content(self, module_name: str) -> bool:
        return module_name.startswith(tuple(self._roots))

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = _parse(name)
        return self._modules[name]


def _parse(name: str) -> _Module | None:
    """Return a module by its source, without importing it; None where there is none to read."""
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:  # what looked like a module is a name in one
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    tree = ast.parse(path.read_bytes())
    module = _Module(name, path.parent)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        module.imports.update(_imports(node, package))
    for statement in tree.body:
        bound = _bound(statement)
        for each in bound:
            module.definitions.setdefault(each, []).append(statement)
        if not bound and not isinstance(statement, ast.Import | ast.ImportFrom) and not _is_docstring(statement):
            module.others.append(statement)
    return module


def _imports(node: ast.AST, package: str) -> Iterator[tuple[str, tuple[str, str | None]]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, None)
    elif isinstance(node, ast.ImportFrom):
        parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
        module = ".".join(part for part in (parent, node.module) if part)
        for alias in node.names:
            yield alias.asname or alias.name, (module, alias.name)


def _bound(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines by itself; none for one that runs for its effect."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Assign():
            targets: Sequence[ast.expr] = statement.targets
        case ast.AnnAssign() | ast.AugAssign():
            targets = [statement.target]
        case _:
            return []
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _names(statement: ast.stmt) -> Iterator[str]:
    return (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _as_text(node: object) -> str:
    """Return a node as text: the same for the same code, whatever the layout and the version of Python."""
    if isinstance(node, list):
        return "[" + ",".join(_as_text(each) for each in node if not _is_nothing(each)) + "]"
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if name not in _NO_FIELDS and value not in (None, []))
        return f"{type(node).__name__}({','.join(f'{name}={_as_text(value)}' for name, value in fields)})"
    return repr(node)


def _is_nothing(node: object) -> bool:
    return isinstance(node, ast.Pass) or _is_docstring(node)


def _is_docstring(node: object) -> bool:
    # A string that stands alone does nothing, wherever it stands.
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _resources(statement: ast.stmt, folder: Path) -> Iterable[str]:
    """Return the content of files beside the module that the statement names: queries, word lists."""
    for node in ast.walk(statement):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and _RESOURCE.fullmatch(value) and (folder / value).is_file():
            content = (folder / value).read_bytes()
            is_query = value.endswith(".sql")
            text = b" ".join(_SQL_COMMENT.sub(b"", content).split()) if is_query else content
            yield f"file {value} {hashlib.sha256(text).hexdigest()}"
