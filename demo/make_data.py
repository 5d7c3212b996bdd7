"""Write questions about Python's standard library, answered by its own docstrings, as .jsonl.

    python demo/make_data.py FILE [ROWS]

Every Python has these texts, so that the demo needs no data set; which functions there are depends
on the version of Python.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path

MODULES = (
    *("base64", "bisect", "calendar", "collections", "contextlib", "copy", "csv", "datetime"),
    *("fnmatch", "functools", "glob", "gzip", "hashlib", "heapq", "html", "inspect", "itertools"),
    *("json", "math", "operator", "os.path", "random", "re", "shutil", "statistics", "string"),
    *("textwrap", "time", "tokenize", "types", "urllib.parse", "uuid", "zipfile"),
)
LONGEST = 320
"""Characters of an answer; longer ones would make the demo slow."""


def main(path: Path, limit: int) -> None:
    rows = list(questions())[:limit]
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{len(rows)} rows, {path.stat().st_size:,} bytes: {path}")


def questions() -> Iterator[dict[str, object]]:
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in sorted(vars(module)):
            answer = first_paragraph(getattr(module, name))
            if not name.startswith("_") and 20 <= len(answer) <= LONGEST:
                yield conversation(f"What does {module_name}.{name} do in Python?", answer)


def first_paragraph(value: object) -> str:
    if not inspect.isroutine(value):
        return ""
    text = (inspect.getdoc(value) or "").split("\n\n")[0]
    return " ".join(text.split())


def conversation(question: str, answer: str) -> dict[str, object]:
    said = (("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in said]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
