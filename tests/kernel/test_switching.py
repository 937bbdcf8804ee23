"""On and off: the configuration, the hook, and what each leaves behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkouts import checkout

from aios_eccos.errors import ConfigError, KernelError
from aios_eccos.kernel import toolserver
from aios_eccos.kernel.setup import install, interpreter
from aios_eccos.kernel.setup import yaml_edit as edit
from aios_eccos.locate import locate, remember_enabled, state_dir_of
from aios_eccos.manifest import manifest
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.embedded import embedded_runs, stop_embedded

#: As it is without the fixture `home`.
PROBE = interpreter.probe
CONFIG = """\
# A comment on top
llms:
  models:
    - name: "small"   # quotes and spaces stay
      backend: vllm
      hostname: "http://127.0.0.1:1/v1"

    - name: gpt-4o-mini
      backend: openai
      input_cost_per_token: 1.5e-7
      output_cost_per_token: 6.0e-7
  router:
    strategy: "sequential"
    bootstrap_url: "https://example.org/x"   # kept
  log_mode: console
server: {host: localhost, port: 8000}
"""
VARIANTS = {
    "block": CONFIG,
    "windows": CONFIG.replace("\n", "\r\n"),
    "no line end": CONFIG.rstrip("\n"),
    "strategy last": (
        "llms:\n  models:\n  - name: small\n    backend: vllm\n  router:\n    strategy: smart"
    ),
    "flow": "llms: {models: [{name: small, backend: vllm}], router: {strategy: sequential}}\n",
    "flow router": "llms:\n  models: [{name: a, backend: b}]\n  router: {x: 1, strategy: s}\n",
    "no strategy": "llms:\n  models:\n  - {name: small, backend: vllm}\n  router:\n    x: 1\n",
    "no router": "llms:\n  models:\n  - name: small\n    backend: vllm\n",
    "no router, flow models": "llms:\n  models: [{name: a, backend: vllm}]\n",
    "no router, flow": "llms: {models: [{name: a, backend: b}, {name: c, backend: d}]}\n",
    "no router, all flow": "{llms: {models: [{name: a, backend: b}]}, server: {port: 1}}",
    "empty router": "llms:\n  models:\n  - name: a\n    backend: b\n  router: {}  # none\n",
    "empty router, flow": "llms: {router: { }, models: [{name: a, backend: b}]}\n",
    "null router": "llms:\n  router:   # none\n  models:\n  - name: a\n    backend: b\n",
    "null router last": "llms:\n  models:\n  - name: a\n    backend: b\n  router:",
    "null router in words": "llms:\n  models: [{name: a, backend: b}]\n  router: null\n",
    "null router, flow": "llms: {router:, models: [{name: a, backend: b}]}\n",
    "null router last, flow": "llms: {models: [{name: a, backend: b}], router: }\n",
    "empty strategy": CONFIG.replace('"sequential"', "  # AIOS's own"),
    "null strategy": CONFIG.replace('"sequential"', "~"),
    "empty strategy last": "llms:\n  models: [{name: a, backend: b}]\n  router:\n    strategy:",
    "empty strategy, flow": "llms:\n  models: [{name: a}]\n  router: {strategy: , x: 1}\n",
    "empty strategy alone, flow": "llms: {models: [{name: a}], router: {strategy:}}\n",
    "byte order mark": f"\ufeff{CONFIG}",
    "comment in the router": CONFIG.replace("    strategy:", "    # mine\n    strategy:"),
    "router ends with an alias": (
        "x: &x {y: 1}\nllms:\n  models: [{name: a}]\n  router:\n    strategy: s\n    z: *x\n"
    ),
    "router ends with a text": (
        "llms:\n  router:\n    strategy: s\n    z: |\n      text\n  models: [{name: a}]\n"
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the stand-in, an own state folder, and an interpreter that can run AIOS."""
    return checkout(tmp_path, monkeypatch, CONFIG)


def listing(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def settings(home: Path) -> dict[str, Any]:
    text = (home / "aios/config/config.yaml").read_text()
    router: dict[str, Any] = yaml.safe_load(text)["llms"]["router"]
    return router


@pytest.mark.parametrize("name", VARIANTS)
def test_enable_changes_one_file_and_disable_restores_every_byte(home: Path, name: str) -> None:
    path = home / "aios/config/config.yaml"
    path.write_bytes(VARIANTS[name].encode())
    before = listing(home)
    install.enable(home)
    assert settings(home)["strategy"] == "eccos"
    assert settings(home)["eccos"] == manifest().default_config
    during = listing(home)
    assert {key for key in during if during[key] != before[key]} == {"aios/config/config.yaml"}
    install.enable(home)
    assert listing(home) == during
    install.disable(home)
    assert listing(home) == before


def test_who_switches_off_waits_for_who_switches_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the hook could go after it was put in place, while the configuration relies on it."""
    write, other = interpreter.write_hook, threading.Thread(target=install.disable, args=(home,))

    def slowly(hook: Path, module: str) -> str:
        said = write(hook, module)
        other.start()
        other.join(0.3)  # as long as it waits, it does nothing
        assert hook.exists()
        return said

    monkeypatch.setattr(interpreter, "write_hook", slowly)
    before = listing(home)
    install.enable(home)
    other.join(60)
    assert listing(home) == before


@pytest.mark.parametrize("name", VARIANTS)
def test_disable_takes_ours_out_of_what_was_changed_since(home: Path, name: str) -> None:
    path = home / "aios/config/config.yaml"
    path.write_bytes(VARIANTS[name].encode())
    install.disable(home)
    assert path.read_bytes() == VARIANTS[name].encode(), "it was not on"
    install.enable(home)
    path.write_bytes(path.read_bytes().rstrip() + b"\n# mine\n")
    install.disable(home)
    assert "# mine" in path.read_text()
    assert settings(home)["strategy"] != "eccos"
    assert "eccos" not in settings(home)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "llms"),
        ("llms:\n", "llms"),
        ("llms: [a]\n", "llms"),
        ("llms: {models: [{name: a}]\n", "config.yaml"),
        ("llms: {models: [{name: a}], router: smart}\n", "llms.router"),
        ("llms: {models: [{name: a}], router: {strategy}}\n", "llms.router"),
        ("llms:\n  ? models\n  : [{name: a}]\n", "llms.router"),
    ],
)
def test_a_configuration_that_cannot_be_edited_is_refused_by_key(
    home: Path, text: str, key: str
) -> None:
    (home / "aios/config/config.yaml").write_text(text)
    before = listing(home)
    with pytest.raises(ConfigError, match=f"^{key}: .+$"):
        install.enable(home)
    assert listing(home) == before


@pytest.mark.parametrize("raw", [b"# K\xfcche\n" + CONFIG.encode(), CONFIG.encode("utf-16")])
def test_a_configuration_that_is_not_utf8_is_named_and_left_alone(home: Path, raw: bytes) -> None:
    path = home / "aios/config/config.yaml"
    path.write_bytes(raw)
    before = listing(home)
    for change in (
        install.enable,
        install.disable,
        lambda _: install.set_option(path, "mode", "route"),
    ):
        with pytest.raises(ConfigError, match=r"config\.yaml: .*UTF.*: byte 0x.. at position \d"):
            change(home)
    assert listing(home) == before


def test_a_configuration_that_cannot_be_written_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refusing(part: Path, target: Path) -> Path:  # a read-only folder, which root may write to
        if target.name == "config.yaml":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", refusing)
    before = (home / "aios/config/config.yaml").read_bytes()
    with pytest.raises(KernelError, match=r"config\.yaml cannot be written: Permission denied"):
        install.enable(home)
    assert (home / "aios/config/config.yaml").read_bytes() == before


def test_a_linked_configuration_stays_linked(home: Path, tmp_path: Path) -> None:
    path = home / "aios/config/config.yaml"
    target = path.rename(tmp_path / "kept.yaml")
    path.symlink_to("../../../kept.yaml")
    install.enable(home)
    assert path.is_symlink()
    assert settings(home)["strategy"] == "eccos"
    install.set_option(path, "mode", "observe")
    assert locate(config=path).state_dir == state_dir_of(home)
    install.disable(home)
    assert path.is_symlink()
    assert target.read_text() == CONFIG


def test_a_link_to_a_configuration_yet_to_be_made_stays(home: Path, tmp_path: Path) -> None:
    path = home / "aios/config/config.yaml"
    path.rename(path.with_name("config.yaml.example"))
    path.symlink_to(tmp_path / "kept.yaml")
    install.enable(home)
    assert settings(home)["strategy"] == "eccos"
    install.disable(home)
    assert path.is_symlink()
    assert not path.exists()


def test_only_what_is_needed_is_written(home: Path) -> None:
    install.enable(home)
    text = (home / "aios/config/config.yaml").read_text()
    for line in CONFIG.splitlines():
        assert line in text or "strategy" in line
    assert "    # bootstrap" not in text
    assert text.count("price unknown") == 1, "only the unpriced model is commented"
    assert text.index("price unknown") < text.index("gpt-4o-mini")


BLOCK_LAST = """\
llms:
  models:
    - name: small
      backend: vllm
{last}
      # the operator's, below the last line

    - name: next
      backend: vllm
      input_cost_per_token: 0
      output_cost_per_token: 0
defaults: 1
"""


@pytest.mark.parametrize(
    "last",
    [
        "      extra:\n        x: 1",
        "      tags:\n      - a\n      - b",
        "      extra:\n        x:\n        - {y: 1}\n        - z: |\n            a text",
        "      note: |\n        a text\n        of two lines",
        "      note: >+\n        a text, whose last line end stays\n",
        "      extra: &kept {x: 1}\n      same: *kept",
    ],
)
def test_the_price_comment_stays_in_the_entry_of_its_model(last: str) -> None:
    text = BLOCK_LAST.format(last=last)
    on = edit.switch_on(text, "eccos", "a: 1\n", install.PRICE_COMMENT, ["small"])
    comment = textwrap.indent(install.PRICE_COMMENT, " " * 6)
    assert f"{last}\n{comment}" in on
    filled = on.replace("# input_cost_per_token: 0", "input_cost_per_token: 7")
    small, following = yaml.safe_load(filled)["llms"]["models"]
    before = yaml.safe_load(text)["llms"]["models"]
    assert small == before[0] | {"input_cost_per_token": 7}
    assert following == before[1]
    assert edit.switch_on(on, "eccos", "a: 1\n", install.PRICE_COMMENT, ["small"]) == on


def test_both_are_idempotent_and_say_so(home: Path) -> None:
    before = listing(home)
    install.enable(home)
    once = listing(home)
    said = install.enable(home)
    assert listing(home) == once
    assert any("already" in line for line in said)
    install.disable(home)
    said = install.disable(home)
    assert any("nothing to change" in line for line in said)
    assert listing(home) == before


@pytest.mark.parametrize("created", [False, True])
def test_what_was_changed_between_two_enables_survives_disable(home: Path, created: bool) -> None:
    path = home / "aios/config/config.yaml"
    if created:
        path.with_name("config.yaml.example").write_bytes(path.read_bytes())
        path.unlink()
    install.enable(home)
    path.write_text(path.read_text(encoding="utf-8") + "mine: 1\n", encoding="utf-8")
    install.enable(home)
    install.enable(home)
    install.disable(home)
    text = path.read_text(encoding="utf-8")
    assert text.endswith("mine: 1\n")
    assert "eccos" not in yaml.safe_load(text)["llms"]["router"]["strategy"]


def test_a_hook_that_cannot_be_written_leaves_the_configuration_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise KernelError("no right to write there")

    before = listing(home)
    monkeypatch.setattr(interpreter, "write_hook", refuse)
    with pytest.raises(KernelError):
        install.enable(home)
    assert listing(home) == before


def test_disable_ends_what_a_killed_kernel_left(home: Path) -> None:
    install.enable(home)
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    note = toolserver.folder_of(state_dir_of(home)) / f"{socket.gethostname()}-{gone.pid}.json"
    note.parent.mkdir()
    servers = {str(left.pid): toolserver.identity(left.pid)}
    note.write_text(json.dumps({"kernel": "another", "servers": servers}))
    try:
        assert any("tool server" in line for line in install.disable(home))
        left.wait(60)
        assert toolserver.identity(left.pid) is None
    finally:
        left.kill()
        left.wait()


def test_disable_ends_the_redis_that_a_killed_kernel_left(home: Path) -> None:
    install.enable(home)
    state = state_dir_of(home)
    # In a process of its own: a living user would start it again.
    code = (
        "import os, pathlib, sys; from aios_eccos.workload.connect import open_workload; "
        "open_workload('embedded', state_dir=pathlib.Path(sys.argv[1])); os._exit(0)"
    )
    try:
        subprocess.run([sys.executable, "-c", code, str(state)], check=True)
        assert embedded_runs(state)
        assert "ended the embedded Redis" in install.disable(home)
        assert not embedded_runs(state)
    finally:
        stop_embedded(state)


def test_disable_leaves_the_redis_of_a_kernel_that_runs(home: Path) -> None:
    install.enable(home)
    state = state_dir_of(home)
    kernel = open_workload("embedded", state_dir=state)
    try:
        assert "ended the embedded Redis" not in install.disable(home)
        assert embedded_runs(state)
    finally:
        kernel.close()
    assert not embedded_runs(state)


def test_a_fresh_clone_gets_its_configuration_from_the_example(home: Path) -> None:
    path = home / "aios/config/config.yaml"
    path.rename(path.with_name("config.yaml.example"))
    before = listing(home)
    said = install.enable(home)
    assert any("config.yaml.example" in line for line in said)
    assert settings(home)["strategy"] == "eccos"
    install.disable(home)
    assert listing(home) == before


def test_changes_of_the_operator_survive_disable(home: Path) -> None:
    install.enable(home)
    path = home / "aios/config/config.yaml"
    path.write_text(path.read_text().replace("port: 8000", "port: 8001"))
    install.disable(home)
    assert path.read_text() == CONFIG.replace("port: 8000", "port: 8001")


def test_own_settings_stay_when_the_file_was_changed(home: Path) -> None:
    install.enable(home)
    path = home / "aios/config/config.yaml"
    path.write_text(path.read_text().replace("window_ms: 5 ", "window_ms: 9 "))
    said = install.disable(home)
    assert settings(home)["strategy"] == "sequential"
    assert settings(home)["eccos"]["window_ms"] == 9
    assert any("settings of yours" in line for line in said)


@pytest.mark.parametrize("written", ["eccos", '"eccos"', "'eccos'  # by hand"])
@pytest.mark.parametrize("changed", [False, True])
def test_a_strategy_that_the_operator_has_written_is_switched_off_too(
    home: Path, written: str, changed: bool
) -> None:
    path = home / "aios/config/config.yaml"
    path.write_text(CONFIG.replace('"sequential"', written))
    install.enable(home)
    if changed:
        path.write_text(path.read_text() + "# mine\n")
    install.disable(home)
    assert settings(home)["strategy"] == "sequential"


def test_a_file_that_aios_wrote_anew_is_switched_off(home: Path) -> None:
    install.enable(home)
    path = home / "aios/config/config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text())))
    install.disable(home)
    assert settings(home)["strategy"] == "sequential"
    assert "eccos" not in settings(home)


def test_options_are_written_and_changed_and_disable_still_restores_every_byte(home: Path) -> None:
    before = listing(home)
    install.enable(home, options={"mode": "observe", "audit": "5 %"})
    assert settings(home)["eccos"]["mode"] == "observe"
    assert settings(home)["eccos"]["audit"] == "5 %"
    install.set_option(home / "aios/config/config.yaml", "mode", "route")
    install.set_option(home / "aios/config/config.yaml", "audit", "off")
    assert settings(home)["eccos"]["mode"] == "route"
    assert settings(home)["eccos"]["audit"] is False
    install.disable(home)
    assert listing(home) == before


def test_a_configuration_that_does_not_validate_is_left_alone(home: Path) -> None:
    path = home / "aios/config/config.yaml"
    path.write_text(CONFIG.replace("backend: vllm", "backend: vllm\n      concurrency: 0"))
    before = listing(home)
    with pytest.raises(ConfigError, match="concurrency"):
        install.enable(home)
    assert listing(home) == before


def test_an_aios_that_moved_is_refused_by_name(home: Path) -> None:
    path = home / "aios/scheduler/fifo_scheduler.py"
    path.write_text(path.read_text().replace("def _execute_syscall", "def _run_syscall"))
    before = listing(home)
    with pytest.raises(KernelError, match=r"fifo_scheduler\.py: FIFOScheduler\._execute_syscall"):
        install.enable(home)
    assert listing(home) == before


def test_something_else_than_aios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"no runtime/launch\.py"):
        install.check_contract(tmp_path)


def test_an_interpreter_that_cannot_run_aios_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = manifest().aios.model_copy(update={"needs": ("no_such_package",)})
    changed = manifest().model_copy(update={"aios": lacking})
    monkeypatch.setattr(interpreter, "manifest", lambda: changed)
    with pytest.raises(KernelError, match="lacks no_such_package"):
        interpreter.probe(sys.executable)
    with pytest.raises(KernelError, match="does not answer"):
        interpreter.probe("/no/such/python")


def test_an_interpreter_is_named_from_the_folder_that_one_is_in(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = manifest().aios.model_copy(update={"needs": ()})
    changed = manifest().model_copy(update={"aios": nothing})
    monkeypatch.setattr(interpreter, "manifest", lambda: changed)
    monkeypatch.setattr(interpreter, "probe", PROBE)
    monkeypatch.setenv("PYTHONPATH", str(Path(install.__file__).parents[3]))
    venv.create(tmp_path / "va", symlinks=True)
    monkeypatch.chdir(tmp_path)
    site = Path(interpreter.probe("va/bin/python")["site"])
    assert site.is_relative_to(tmp_path / "va"), "a venv's python is a link, not to be followed"
    install.enable(home, "va/bin/python")
    note = install.note_of(home)
    assert note is not None
    assert note.python == str(tmp_path / "va/bin/python"), "doctor may run elsewhere"
    monkeypatch.setenv("PATH", str(tmp_path / "va/bin"))
    assert interpreter.probe("python")["site"] == str(site)


def in_venv(site: Path) -> Callable[[str], dict[str, Any]]:
    """A probe that finds an interpreter's site-packages in the folder of its name."""

    def probe(python: str) -> dict[str, Any]:
        (site / python).mkdir(exist_ok=True)
        return {"site": str(site / python)}

    return probe


def test_a_second_interpreter_takes_the_hook_from_the_first(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listing(home)
    monkeypatch.setattr(interpreter, "probe", in_venv(tmp_path))
    first, second = (tmp_path / name / interpreter.HOOK_FILE for name in ("va", "vb"))
    install.enable(home, "va")
    said = install.enable(home, "vb")
    assert f"removed the hook {first}" in said
    assert not first.exists()
    assert second.is_file()
    assert not any("removed" in line for line in install.enable(home, "vb"))
    shutil.rmtree(second.parent)
    assert f"the hook {second} was removed already" in install.enable(home, "va")
    install.disable(home)
    assert not first.exists()
    assert listing(home) == before


def test_an_interpreter_by_another_path_keeps_its_hook(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "probe", in_venv(tmp_path))
    install.enable(home, "va")
    (tmp_path / "link").symlink_to(tmp_path / "va")
    install.enable(home, "link")
    assert (tmp_path / "va" / interpreter.HOOK_FILE).is_file()


def test_the_first_hook_stays_where_the_second_cannot_be_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interpreter, "probe", in_venv(tmp_path))
    install.enable(home, "va")
    (tmp_path / "vb" / interpreter.HOOK_FILE).mkdir(parents=True)
    with pytest.raises(KernelError, match="cannot be written"):
        install.enable(home, "vb")
    assert f"removed the hook {tmp_path / 'va' / interpreter.HOOK_FILE}" in install.disable(home)


def test_two_checkouts_share_the_hook_until_the_last_is_off(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "AIOS2"
    shutil.copytree(home, other)
    install.enable(home)
    install.enable(other)
    remember_enabled(home)
    hook = tmp_path / "site" / interpreter.HOOK_FILE
    install.disable(home)
    assert hook.is_file()
    install.disable(other)
    assert not hook.exists()


def test_the_default_block_is_what_the_manifest_says() -> None:
    assert yaml.safe_load(manifest().default_block) == manifest().default_config


def test_set_option_without_a_block_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="enable"):
        edit.set_option(CONFIG, "mode", "observe")


# The hook in other Pythons.


def python(line: str, code: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python whose start executes a .pth line."""
    site = tmp_path / "hooked"
    site.mkdir(exist_ok=True)
    (site / interpreter.HOOK_FILE).write_text(line)
    script = f"import site, sys; site.addsitedir({str(site)!r}); {code}"
    clean = {key: value for key, value in os.environ.items() if key != "AIOS_ECCOS"}
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**clean, **env},
        check=False,
    )


LINE = interpreter.HOOK_LINE.format(module="aios_eccos.kernel.boot")
LOADED = "print(sorted(m for m in sys.modules if m.startswith('aios')))"


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(install.__file__).parents[3]))


@pytest.mark.usefixtures("importable")
def test_the_hook_imports_the_boot_module_alone(tmp_path: Path) -> None:
    done = python(LINE, LOADED, tmp_path)
    assert done.stderr == ""
    assert done.stdout.strip() == "['aios_eccos', 'aios_eccos.kernel', 'aios_eccos.kernel.boot']"


@pytest.mark.usefixtures("importable")
def test_the_hook_costs_less_than_5_ms(tmp_path: Path) -> None:
    timed = (
        "import time; b = time.process_time(); import aios_eccos.kernel.boot; "
        "print(time.process_time() - b)"
    )
    assert any(float(python("", timed, tmp_path).stdout) < 0.005 for _ in range(20))


def test_a_left_over_line_is_inert(tmp_path: Path) -> None:
    done = python(LINE.replace("aios_eccos", "no_longer_installed"), "print('ok')", tmp_path)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_broken_plugin_does_not_stop_python(tmp_path: Path) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('broken')")
    line = interpreter.HOOK_LINE.format(module="broken_plugin")
    done = python(line, "print('ok')", tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == ("ok\n", "")


@pytest.mark.usefixtures("importable")
def test_it_can_be_switched_off(tmp_path: Path) -> None:
    done = python(LINE, "print(type(sys.meta_path[0]).__module__)", tmp_path, AIOS_ECCOS="off")
    assert "aios_eccos" not in done.stdout


def start(home: Path, then: str = "pass", **env: str) -> subprocess.CompletedProcess[str]:
    """Import the stand-in's scheduler in a hooked Python and say whose it is."""
    code = (
        "import aios_eccos.kernel.boot, aios.hooks.modules.scheduler as s, "
        "aios.hooks.modules.llm as l;"
        "print(s.FIFOScheduler.__module__, s.RRScheduler.__module__, l.LLM.__module__);"
        f"{then};"
        "made = l.useCore(llm_configs=[{'name': 'a', 'backend': 'vllm', 'hostname': 'http://x'}]);"
        "print('the adapter is', type(made).__module__)"
    )
    root = str(Path(install.__file__).parents[3])
    paths = os.pathsep.join([str(home), root])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **env},
        cwd=home,
        check=False,
    )


def test_any_other_strategy_leaves_aios_as_it_was(home: Path) -> None:
    done = start(home)
    assert done.returncode == 0, done.stderr
    assert "aios_eccos" not in done.stdout
    assert done.stderr == ""


def test_the_strategy_puts_ours_in_every_place(home: Path) -> None:
    install.enable(home)
    done = start(home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("aios_eccos.kernel.scheduler") == 2
    assert "aios_eccos.kernel.adapter" in done.stdout


def test_run_needs_no_strategy(home: Path) -> None:
    done = start(home, AIOS_ECCOS="run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("aios_eccos") == 4


def test_invalid_settings_leave_aios_on_its_own_strategy_and_say_why(home: Path) -> None:
    install.enable(home)
    path = home / "aios/config/config.yaml"
    path.write_text(path.read_text().replace("window_ms: 5 ", "windw_ms: 5 "))
    done = start(home)
    assert done.returncode == 0, done.stderr
    assert "aios_eccos" not in done.stdout
    assert "windw_ms" in done.stderr
    assert "window_ms" in done.stderr


def test_an_aios_that_has_moved_since_serves_by_itself_and_nothing_of_ours_does(home: Path) -> None:
    install.enable(home)
    path = home / "aios/syscall/syscall.py"
    path.write_text(path.read_text().replace("SyscallExecutor", "Executor"))
    done = start(home, "import aios.syscall.syscall")
    assert done.returncode == 0, done.stderr
    assert "SyscallExecutor" in done.stderr
    assert "not in force" in done.stderr
    assert "the adapter is aios.llm_core.adapter" in done.stdout
