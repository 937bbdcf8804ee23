"""The acceptance as an operator types it: enable, start, an agent, status, disable.

In an environment of its own, made beside the interpreter that runs AIOS, with this checkout
installed by pip; on a copy of AIOS whose files are listed with their sha256 before and after.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from .kernel import Kernel
from .report import Report

ROOT = Path(__file__).parents[1]


class Shell:
    """Types commands in an environment and shows what they say."""

    def __init__(self, folder: Path, below: str, cerebrum: Path, env: dict[str, str]) -> None:
        """Make the environment in `folder`, over Cerebrum and what `below` has installed."""
        run(below, "-m", "venv", "--without-pip", str(folder))
        self.python = str(folder / "bin/python")
        self.site = Path(run(self.python, "-c", SITE))
        (self.site / "below.pth").write_text(f"{cerebrum}\n{run(below, '-c', SITE)}\n")
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "-q", "--no-deps"]
        run(*pip, str(ROOT))
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
        self.env = {**os.environ, "PATH": path, **env}
        self.env.pop("PYTHONPATH", None)

    def type(self, *words: str, limit_s: float = 300.0, may_fail: bool = False, **env: str) -> str:
        """Run a command, at most for so long; what it says.

        Raises:
            RuntimeError: it failed.
        """
        sys.stderr.write(f"     $ {' '.join(words)}\n")
        said = run(*words, env={**self.env, **env}, limit_s=limit_s, may_fail=may_fail)
        sys.stderr.write("".join(f"     {line}\n" for line in said.splitlines()))
        return said


SITE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


def run(
    *words: str,
    env: dict[str, str] | None = None,
    limit_s: float = 300.0,
    may_fail: bool = False,
) -> str:
    """What a command says; if it may fail, with its errors.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        words,
        env=env,
        cwd=tempfile.gettempdir(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    if may_fail:
        return (done.stdout + done.stderr).strip()
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:4])}: {(done.stdout + done.stderr)[-600:]}")
    return done.stdout.strip()


def listing(home: Path) -> dict[str, str]:
    """sha256 of every file of a checkout, those that git ignores too."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Files that came, went or differ."""
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


def typed(
    report: Report,
    folder: Path,
    home: Path,
    cerebrum: Path,
    python: str,
    config: dict[str, Any],
) -> None:
    """Enable to observe, start, an agent through the SDK, `mode route`, the agent again, `status`,
    `last`, `route`, `explain`, disable.

    Args:
        folder: for everything that is made beside the copy.
        home: a fresh copy of AIOS.
        config: AIOS's configuration before; what AIOS writes for itself goes beside the copy too.
    """
    state, url = folder / "typed-state", f"http://localhost:{config['server']['port']}"
    config["storage"]["root_dir"] = str(folder / "typed-root")
    path = home / "aios/config/config.yaml"
    path.write_text("# Ours.\n" + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shell = Shell(folder / "typed-env", python, cerebrum, {"AIOS_ECCOS_STATE": str(state)})
    before = listing(home)
    shell.type("aios-eccos", "enable", "--observe", "--aios-home", str(home))
    enabled = changed(before, listing(home))
    kernel = Kernel(
        home,
        cerebrum,
        None,
        state=state,
        python=shell.python,
        hook=False,
        port=config["server"]["port"],
        log=folder / "typed-kernel.log",
    )
    with kernel:
        agent = str(ROOT / "examples/agent.py")
        ask = ("python", agent, "What is 17 x 23?")
        observed = shell.type(*ask, CEREBRUM_KERNEL_URL=url)
        shell.type("aios-eccos", "mode", "route", "--aios-home", str(home))
        said = shell.type(*ask, CEREBRUM_KERNEL_URL=url)
        status = shell.type("aios-eccos", "status", "--aios-home", str(home))
        last = shell.type("aios-eccos", "last", "--aios-home", str(home))
        route = shell.type("aios-eccos", "route", "17 x 23?", "--json", "--aios-home", str(home))
        explained = shell.type("aios-eccos", "explain", "17 x 23?", "--aios-home", str(home))
        running = changed(before, listing(home))
    shell.type("aios-eccos", "disable", "--aios-home", str(home))
    disabled = changed(before, listing(home))
    hooks = [found.name for found in shell.site.glob("*.pth") if found.name != "below.pth"]
    first, other = (model["name"] for model in config["llms"]["models"])
    report.check(
        "typed: enable --observe: the agent is served by AIOS's choice",
        f"answer: {first}: " in observed and "checked: " in observed,
        observed[-80:],
    )
    report.check(
        "typed: mode route on the living kernel: by our choice",
        f"answer: {other}: " in said and "checked: " in said,
        said[-80:],
    )
    report.check("typed: aios-eccos status shows its calls", "4 calls, 0 failed" in status)
    report.check("typed: aios-eccos last shows its decisions", last.count("example/") == 4)
    decided = json.loads(route)
    report.check(
        "typed: aios-eccos route and explain ask the kernel, which has the history",
        decided["model"] == other and other in explained and "owns" not in route + explained,
        decided["note"],
    )
    only = ["aios/config/config.yaml"]
    report.check(
        "typed: only config.yaml differs, and nothing after disable",
        enabled == running == only and not disabled and not hooks,
        f"enabled: {enabled}, running: {running}, disabled: {disabled + hooks}",
    )
