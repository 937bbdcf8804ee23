"""The interpreter that runs AIOS: what it has, asked of itself, and the hook in it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from aios_eccos import files
from aios_eccos.errors import KernelError
from aios_eccos.manifest import manifest

HOOK_FILE = "aios_eccos_kernel.pth"
#: Guards itself: it does nothing once the package is gone, and can never stop Python.
HOOK_LINE = (
    'import sys; exec("try:\\n import {module}\\nexcept Exception:\\n pass")'
    "  # written by `aios-eccos enable`; `aios-eccos disable` removes it\n"
)
#: Seconds that an interpreter may take to say what it has.
PROBE_S = 60.0
PROBE = """
import importlib.util, json, sys, sysconfig
from pathlib import Path
def has(name):
    spec = importlib.util.find_spec(name)
    if spec is None or name != "cerebrum":
        return spec is not None
    return any((Path(p) / "llm/apis.py").is_file() for p in spec.submodule_search_locations or ())
spec = importlib.util.find_spec("aios_eccos")
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "site": sysconfig.get_paths()["purelib"],
    "lacks": [name for name in sys.argv[1:] if not has(name)],
    "plugin": spec and spec.origin,
    "hooked": "aios_eccos.kernel.boot" in sys.modules,
}))
"""


def absolute(python: str) -> str:
    """The interpreter's path as it holds in any folder; a bare name is left to PATH.

    Links are not followed: a venv's python is one.
    """
    path = Path(python)
    return python if path.name == python else str(path.absolute())


def probe(python: str) -> dict[str, Any]:
    """What an interpreter has: its version, its site-packages, our package, our hook.

    A KernelError: it does not run, cannot run AIOS, or does not have this package.
    """
    needs = manifest().aios.needs
    try:
        out = subprocess.run(
            [absolute(python), "-c", PROBE, *needs],
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=True,
            cwd=tempfile.gettempdir(),
        ).stdout
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise KernelError(f"--python {python}: it does not answer ({error})") from error
    if found["lacks"]:
        raise KernelError(
            f"{python} cannot run AIOS, it lacks {', '.join(found['lacks'])}: install aios-eccos "
            "into AIOS's own environment (not with pipx or uv tool), or name that with --python"
        )
    if not found["plugin"]:
        raise KernelError(f"{python} lacks aios-eccos: `{python} -m pip install aios-eccos`")
    return found


def write_hook(hook: Path, module: str) -> str:
    """Have the interpreter of the hook import a module at its start; says what was done."""
    line = HOOK_LINE.format(module=module).encode()
    try:
        if hook.is_file() and hook.read_bytes() == line:
            return f"the hook is in place already: {hook}"
        files.write(hook, line, mode=0o644, synced=True)
    except OSError as error:
        raise KernelError(f"the hook cannot be written: {error}") from error
    return f"wrote the hook {hook}"


def remove_hook(hook: Path) -> str:
    try:
        hook.unlink()
        files.sync_names(hook.parent)  # before the note goes that says where it lies
    except FileNotFoundError:
        return f"the hook {hook} was removed already"
    except OSError as error:
        raise KernelError(f"the hook cannot be removed: {error}") from error
    return f"removed the hook {hook}"
