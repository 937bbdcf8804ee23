"""Nothing that is loaded can run code: no pickle, and no YAML with objects, wherever we look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aios_eccos

ROOT = Path(aios_eccos.__file__).parent
#: Modules whose loading runs code that lies in what is loaded.
UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
}
#: Calls that do, by their last names; `yaml.load` does by its default loader.
UNSAFE_CALLS = {
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "torch.load"),
    *(
        "joblib.load",
        "pandas.read_pickle",
        "pd.read_pickle",
        "eval",
        "exec",
        "compile",
        "__import__",
    ),
}
UNSAFE_LOADERS = {"Loader", "UnsafeLoader", "FullLoader", "CLoader", "CUnsafeLoader", "CFullLoader"}


def unsafe(source: str) -> Iterator[str]:
    """What in a module's text could run code that it loads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = {alias.name.partition(".")[0] for alias in node.names}
            yield from sorted(found & UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom):
            yield from sorted({(node.module or "").partition(".")[0]} & UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            name, given = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
            if name in UNSAFE_CALLS:
                yield name
            pickled = given.get("allow_pickle")
            loads = name in ("np.load", "numpy.load")
            if loads and not (isinstance(pickled, ast.Constant) and pickled.value is False):
                yield f"{name} that may unpickle"
            if name.endswith("SentenceTransformer") and "trust_remote_code" in given:
                yield f"{name} with trust_remote_code"
        elif isinstance(node, ast.Attribute) and node.attr in UNSAFE_LOADERS:
            yield node.attr


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_module_loads_what_could_run(path: Path) -> None:
    allowed = {"collect/sandbox.py": {"exec", "compile"}}.get(str(path.relative_to(ROOT)), set())
    assert set(unsafe(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import dill.source",
        "import yaml\nyaml.load(text)",
        "yaml.load_all(text, Loader=yaml.Loader)",
        "import torch\ntorch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_the_scan_finds_each_kind(source: str) -> None:
    assert [*unsafe(source)]


def test_no_packaged_file_is_a_pickle() -> None:
    for path in ROOT.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.suffix not in (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin", ".npy")
            assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
