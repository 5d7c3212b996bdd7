"""The rules of the source tree that no tool knows, and a checker for them.

The tables say who may import whom, which module is the home of which library, and which calls
belong to one module only.
The checker reads the sources with `ast` and never runs them; `violations` returns one line each.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LAYERS: tuple[tuple[str, ...], ...] = (
    ("modelstore.errors",),
    ("modelstore.hashing",),
    ("modelstore.syscalls",),
    (
        *("modelstore.names", "modelstore.disk", "modelstore.canonical", "modelstore.progress"),
        *("modelstore.sizes", "modelstore.reading", "modelstore.moments"),
        "modelstore.curve",
    ),
    ("modelstore.locks", "modelstore.groupsync", "modelstore.numeric", "modelstore.charts"),
    ("modelstore.formats.base",),
    ("modelstore.view",),
    ("modelstore.formats", "modelstore.codecs", "modelstore.state", "modelstore.values"),
    ("modelstore.manifest", "modelstore.lowrank", "modelstore.records"),
    ("modelstore.registry", "modelstore.blobs", "modelstore.remotes"),
    ("modelstore.store", "modelstore.adapters"),
    ("modelstore.ops",),
    (
        *("modelstore.integrations.tensors", "modelstore.integrations.opening"),
        "modelstore.integrations.saving",
    ),
    ("modelstore.integrations.trainer_record",),
    ("modelstore.integrations.callback",),
    ("modelstore.integrations.transformers",),
    ("modelstore.training", "modelstore.server"),
    ("modelstore.api_remotes", "modelstore.api_layouts"),
    ("modelstore.api",),
    ("modelstore",),
    ("modelstore.integrations", "modelstore.cli"),
    ("modelstore.__main__", "tuning"),
)
"""Lowest first. A module belongs to the longest entry that begins its name.

It imports from lower rows and from its own entry; the entries of one row do not know each other.
"""

LEARNING = ("modelstore.training", "modelstore.integrations")
NUMBERS = (
    *("modelstore.codecs", "modelstore.numeric", "modelstore.values", "modelstore.formats"),
    *("modelstore.lowrank", "modelstore.ops"),
)
HOMES: dict[str, tuple[str, ...]] = {
    "accelerate": LEARNING,
    "blake3": ("modelstore.hashing",),
    "click": ("modelstore.cli", "tuning"),
    "cryptography": ("modelstore.remotes",),
    "ctypes": ("modelstore.groupsync", "modelstore.syscalls", "modelstore.cli"),
    "datasets": LEARNING,
    "fcntl": ("modelstore.syscalls",),
    "filelock": ("modelstore.locks",),
    "gguf": LEARNING,
    "huggingface_hub": LEARNING,
    "httpx2": ("modelstore.remotes",),
    "jinja2": ("modelstore.server", "modelstore.training"),
    "llvmlite": ("modelstore.codecs",),
    "lz4": ("modelstore.server",),
    "markdown_it": ("modelstore.server",),
    "markupsafe": ("modelstore.server",),
    "numba": NUMBERS,
    "numpy": NUMBERS,
    "obstore": ("modelstore.remotes",),
    "peft": LEARNING,
    "rich": ("modelstore.cli",),
    "safetensors": LEARNING,
    "starlette": ("modelstore.server",),
    "tempfile": ("modelstore.api",),  # small files for transformers: a store may be read-only
    "tomli": ("modelstore.training",),
    "torch": LEARNING,
    "transformers": LEARNING,
    "trl": LEARNING,
    "uvicorn": ("modelstore.server",),
    "zstandard": ("modelstore.codecs",),
}
"""The packages that may import a library, at the top or in a function; () for none.

Every third-party library has a home; of the standard library only what is listed is restricted.
"""

UNPICKLERS = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}

SLOW = {"numpy", "numba", "filelock", "obstore", "zstandard", "starlette", "uvicorn"}
TRAINING_STACK = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "gguf"}
"""Imported in functions everywhere but in integrations, which are for those who have it loaded."""

QUICK = ("modelstore.cli", "modelstore.store", "modelstore.registry", "modelstore.manifest")
QUICK_COMMANDS = {"log", "list", "list_", "listing", "active"}
"""What `mstore log`, `list` and `--help` load: these, and all that these import at the top.

A command's own module is loaded when it runs; those named here belong to the quick commands.
"""

DISK = "modelstore.disk"
SYSCALLS = "modelstore.syscalls"
TERMINAL = ("modelstore.cli", "modelstore.__main__", "tuning")

OS_CHANGES = {
    *("write", "pwrite", "writev", "pwritev", "sendfile", "copy_file_range", "posix_fallocate"),
    *("fsync", "fdatasync", "sync", "truncate", "ftruncate", "mkdir", "makedirs", "mkfifo"),
    *("link", "symlink", "rename", "renames", "replace", "remove", "unlink", "rmdir", "removedirs"),
    *("chmod", "fchmod", "lchmod", "chown", "utime", "mknod", "setxattr", "removexattr"),
}
OPEN_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"}
SHUTIL_READS = {"disk_usage", "which", "get_terminal_size"}
PATH_CHANGES = {
    *("write_text", "write_bytes", "touch", "unlink", "mkdir", "rmdir", "tofile"),
    *("symlink_to", "hardlink_to", "chmod", "lchmod"),
}
PROCESS_CALLS = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "os.abort"}
PROCESS_NAMES = {"os.environ", "os.environb", "os.getenv", "os.putenv", "sys.stdout", "sys.stderr"}


@dataclass(frozen=True)
class Import:
    """One imported name: the dotted ``target``, where, and whether loading the module runs it."""

    target: str
    line: int
    at_top: bool


@dataclass
class Module:
    """One source file."""

    name: str
    tree: ast.Module
    aliases: dict[str, str] = field(default_factory=dict)

    @cached_property
    def imports(self) -> list[Import]:
        """Everything it imports; also notes what local names stand for in ``aliases``."""
        return list(self._imports(self.tree, at_top=True))

    def _imports(self, node: ast.AST, *, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    self.aliases[local] = alias.name if alias.asname else local
                    yield Import(alias.name, child.lineno, at_top)
            elif isinstance(child, ast.ImportFrom):
                for alias in child.names:
                    target = "." * child.level + f"{child.module or ''}.{alias.name}".lstrip(".")
                    self.aliases[alias.asname or alias.name] = target
                    yield Import(target, child.lineno, at_top)
            else:
                function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                runs = at_top and not function and not _is_type_checking(child)
                yield from self._imports(child, at_top=runs)

    def dotted(self, node: ast.AST) -> str:
        """Return the full name that ``node`` stands for, as in "os.path.join", or ""."""
        if isinstance(node, ast.Name):
            return self.aliases.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            owner = self.dotted(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return ""


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def load(root: Path) -> dict[str, Module]:
    """Return the modules of the packages ``modelstore`` and ``tuning`` under ``root`` by name."""
    modules = {}
    for package in ("modelstore", "tuning"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            modules[name] = Module(name, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return modules


def violations(root: Path) -> list[str]:
    """Return every broken rule of the tree under ``root`` as "module:line: what is wrong"."""
    modules = load(root)
    found = [*_cycles(modules), *_slow_starts(modules)]
    for module in modules.values():
        found += _wrong_imports(module, modules)
        found += _wrong_homes(module)
        found += _wrong_calls(module)
    return sorted(found)


# --- what is imported, and where


def within(name: str, packages: tuple[str, ...] | str) -> bool:
    """Tell whether module ``name`` is one of ``packages`` or lies in one."""
    packages = (packages,) if isinstance(packages, str) else packages
    return any(name == package or name.startswith(package + ".") for package in packages)


def _place(name: str) -> tuple[int, str] | None:
    """Return the row and the entry of `LAYERS` that module ``name`` belongs to.

    The entry "modelstore" is that package's own ``__init__`` only: a new module must be placed.
    """
    entries = [(row, entry) for row, layer in enumerate(LAYERS) for entry in layer]
    fitting = [
        (row, entry)
        for row, entry in entries
        if name == entry or (entry != "modelstore" and within(name, entry))
    ]
    return max(fitting, key=lambda place: len(place[1]), default=None)


def _resolve(target: str, modules: dict[str, Module]) -> str:
    """Return the module that importing ``target`` means: itself, or what defines the name."""
    return target if target in modules else target.rpartition(".")[0]


def _ours(module: Module, modules: dict[str, Module]) -> Iterator[tuple[Import, str]]:
    for imported in module.imports:
        if imported.target.partition(".")[0] in {"modelstore", "tuning"}:
            yield imported, _resolve(imported.target, modules)


def _wrong_imports(module: Module, modules: dict[str, Module]) -> Iterator[str]:
    place = _place(module.name)
    if place is None:
        yield f"{module.name}:1: has no place in LAYERS"
        return
    for imported in module.imports:
        if imported.target.startswith("."):
            yield f"{module.name}:{imported.line}: relative import of {imported.target}"
    for imported, name in _ours(module, modules):
        other = _place(name)
        if other is not None and other[1] != place[1] and other[0] >= place[0]:
            yield f"{module.name}:{imported.line}: imports {name}, which is not below it"


def _wrong_homes(module: Module) -> Iterator[str]:
    outermost = within(module.name, "modelstore.integrations")
    for imported in module.imports:
        library = imported.target.partition(".")[0]
        where = f"{module.name}:{imported.line}"
        if library in UNPICKLERS:
            yield f"{where}: imports {library}, which can run what it reads"
        elif library in HOMES:
            if not within(module.name, HOMES[library]):
                yield f"{where}: imports {library}, whose home is {HOMES[library] or 'nowhere'}"
            elif library in TRAINING_STACK and imported.at_top and not outermost:
                yield f"{where}: imports {library} at the top"
        elif library not in {"modelstore", "tuning", "", *sys.stdlib_module_names}:
            yield f"{where}: imports {library}, which has no home"


def _cycles(modules: dict[str, Module]) -> Iterator[str]:
    """Report each module that can reach itself, whether by imports at the top or in functions."""
    edges = {name: {to for _, to in _ours(module, modules)} for name, module in modules.items()}
    for name in modules:
        if name in _reachable(edges, edges[name] - {name}):
            yield f"{name}:1: is part of an import cycle"


def _reachable(edges: dict[str, set[str]], start: set[str]) -> set[str]:
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(edges.get(name, ()))
    return seen


def quick_modules(modules: dict[str, Module]) -> set[str]:
    """Return the modules that `mstore log`, `list` or `--help` load, by imports at the top."""
    edges = {}
    for name, module in modules.items():
        loaded = {to for imported, to in _ours(module, modules) if imported.at_top}
        edges[name] = loaded | {name.rpartition(".")[0]} - {""}  # a package's __init__ runs first
    start = {name for name in QUICK if name in modules}
    for name in modules:
        if within(name, "modelstore.cli") and name.rpartition(".")[2] in QUICK_COMMANDS:
            start.add(name)
    return _reachable(edges, start) & set(modules)


def _slow_starts(modules: dict[str, Module]) -> Iterator[str]:
    for name in quick_modules(modules):
        for imported in modules[name].imports:
            library = imported.target.partition(".")[0]
            if imported.at_top and library in SLOW | TRAINING_STACK:
                yield f"{name}:{imported.line}: {library} would be loaded by `mstore --help`"


# --- calls


def _wrong_calls(module: Module) -> Iterator[str]:
    assert module.imports is not None  # fills the aliases
    for node in ast.walk(module.tree):
        where = f"{module.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            if not within(module.name, (DISK, SYSCALLS)) and _changes_disk(module, node):
                yield f"{where}: {ast.unparse(node.func)} changes the disk outside {DISK}"
            if _unpickles(module, node):
                yield f"{where}: {ast.unparse(node.func)} may unpickle"
        if not within(module.name, TERMINAL) and _touches_process(module, node):
            yield f"{where}: {ast.unparse(node)} belongs to modelstore.cli"


def _changes_disk(module: Module, call: ast.Call) -> bool:
    name = module.dotted(call.func)
    library, _, function = name.partition(".")
    if name == "os.open":
        flags = {n.attr for n in ast.walk(call) if isinstance(n, ast.Attribute)}
        return bool(flags & OPEN_FLAGS) or "O_RDONLY" not in flags
    if library == "os" and function:
        return function in OS_CHANGES
    if library == "shutil" and function:
        return function not in SHUTIL_READS
    if name in {"open", "io.open"}:
        return _opens_for_writing(call, call.args[1:2], strict=True)
    if not isinstance(call.func, ast.Attribute) or name.startswith(f"{DISK}."):
        return False
    method = call.func.attr
    if method == "open":
        return _opens_for_writing(call, call.args, strict=False)
    if method in {"replace", "rename"}:  # one argument: a Path's, and not that of a string
        return len(call.args) == 1 and not call.keywords
    return method in PATH_CHANGES


def _opens_for_writing(call: ast.Call, candidates: list[ast.expr], *, strict: bool) -> bool:
    """Tell whether a mode among the arguments writes; an unknown one counts where ``strict``."""
    modes = [*candidates, *(word.value for word in call.keywords if word.arg == "mode")]
    for mode in modes:
        if isinstance(mode, ast.Constant) and isinstance(mode.value, str):
            if set(mode.value) <= set("rwaxbt+") and set(mode.value) & set("wax+"):
                return True
        elif strict:
            return True
    return False


def _unpickles(module: Module, call: ast.Call) -> bool:
    name = module.dotted(call.func)
    words = {
        word.arg: isinstance(word.value, ast.Constant) and word.value.value
        for word in call.keywords
    }
    if name == "torch.load":
        return words.get("weights_only") is not True
    return bool(words.get("allow_pickle"))


def _touches_process(module: Module, node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return module.dotted(node.func) in PROCESS_CALLS
    if isinstance(node, ast.Raise) and node.exc is not None:
        return "SystemExit" in ast.unparse(node.exc)
    return isinstance(node, ast.Attribute | ast.Name) and module.dotted(node) in PROCESS_NAMES
