"""What `doctor` says about AIOS, the installation and a living kernel."""

from __future__ import annotations

import socket
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from aios_eccos.errors import EccosError, shown_address
from aios_eccos.kernel import client
from aios_eccos.kernel.setup import contract, install, interpreter
from aios_eccos.locate import Config
from aios_eccos.manifest import manifest
from aios_eccos.observe.health import Check
from aios_eccos.serve.ollama import Loading
from aios_eccos.serve.shared_servers import fetched, metrics_url, requests_in

#: Seconds that a model's endpoint may take to accept a connection.
REACH_S = 2.0


def check_aios(config: Config, reach: bool = False) -> Iterator[Check]:
    """The checkout, the hook, the SDK, the living kernel and, if `reach`, the models' endpoints."""
    home = config.location.aios_home
    if home is None:
        yield Check("AIOS", False, "no checkout is named; use --aios-home DIR or $AIOS_HOME")
        return
    moved = contract.check(home)
    points = f"{len(contract.points())} points, contract {manifest().aios.contract}"
    yield Check("contract", not moved, "; ".join(moved) or f"{home} is as expected ({points})")
    on = config.strategy == manifest().aios.strategy
    remedy = "" if on else "; switch on with `aios-eccos enable`"
    yield Check("strategy", on, f"llms.router.strategy: {config.strategy or 'not set'}{remedy}")
    yield from _check_hook(home)
    yield _check_sdk()
    yield from _check_kernel(config, home)
    if reach:
        yield from _check_models(config)


def _check_hook(home: Path) -> Iterator[Check]:
    note = install.note_of(home)
    if note is None:
        yield Check("hook", False, "not enabled here; `aios-eccos enable` writes it")
        return
    fault = None if Path(note.hook).is_file() else f"{note.hook} is gone; enable again"
    try:
        found = interpreter.probe(note.python)
    except EccosError as error:
        yield Check("interpreter", False, str(error))
    else:
        if fault is None and not found["hooked"]:
            fault = (
                f"{note.python} does not load {note.hook} (its site-packages: {found['site']}); "
                "enable again"
            )
        same = Path(found["site"]).resolve() == Path(sysconfig.get_path("purelib")).resolve()
        other = "" if same else f", not {sys.executable}: start AIOS with the former, without -S"
        yield Check("interpreter", True, note.python + other)
    yield Check("hook", fault is None, fault or note.hook)


def _check_sdk() -> Check:
    """What agents of this environment have; the kernel's is checked with its interpreter.

    The two generations carry one version number; their modules tell them apart.
    """
    places = [home / "cerebrum/llm" for home in contract.sdk_homes()]
    if any((place / "apis.py").is_file() for place in places):
        return Check("SDK", True, f"cerebrum.llm.apis (git) in {sys.executable}")
    if any((place / "communication.py").is_file() for place in places):
        return Check(
            "SDK", None, "PyPI generation (cerebrum.llm.communication): chat and operate_file only"
        )
    return Check("SDK", None, f"{sys.executable} has no cerebrum")


class LivingKernel(BaseModel):
    """What `doctor` reads of the answer to `GET /eccos/kernel`, which an older plugin may give."""

    mode: str
    models: list[str]
    seams: dict[str, bool]
    executor: int | None = None
    refusals: list[dict[str, str]] = []


def _check_kernel(config: Config, home: Path) -> Iterator[Check]:
    try:
        answer = client.ask(config, "/eccos/kernel")
        stock = answer is None and client.ask(config, "/status") is not None
        url = client.url_of(config)
    except EccosError as error:
        yield Check("kernel", False, str(error))
        return
    if stock:
        yield _check_stock(f"a kernel lives at {url} without the plugin", config, home)
        return
    if answer is None:
        yield Check("kernel", None, f"none answers at {url}")
        return
    try:
        living = LivingKernel.model_validate(answer)
    except ValidationError:
        yield Check("kernel", False, f"what answers at {url} is no kernel: look at server.port")
        return
    yield Check("kernel", True, f"{url}, mode {living.mode}")
    for seam, ok in living.seams.items():
        yield Check(f"kernel: {seam}", ok, "the plugin's" if ok else "not the plugin's: restart it")
    threads, asked = living.executor, config.settings.http_threads
    if threads is None:
        yield Check("kernel: threads", None, "it does not say: an older aios-eccos runs there")
    else:
        enough = threads >= asked
        detail = f"{threads}, http_threads: {asked}" + ("" if enough else "; restart it")
        yield Check("kernel: threads", enough, detail)
    lost = sorted({entry.name for entry in config.entries} - set(living.models))
    detail = f"AIOS could not set up {', '.join(lost)}; its log says why" if lost else "all set up"
    yield Check("kernel: models", not lost, detail)
    for found in living.refusals:
        refuses, remedy = found.get("refuses"), found.get("remedy", "declare it in llms.models")
        detail = f"{refuses}: {remedy}, else it refuses a call anew every hour"
        yield Check(f"model {found.get('model')}", None, detail)


def _check_stock(detail: str, config: Config, home: Path) -> Check:
    if config.strategy != manifest().aios.strategy:
        return Check("kernel", None, detail)
    note = install.note_of(home)
    python = note.python if note is not None else "python"
    again = f"restart it, e.g. `{python} -m runtime.launch`; if it stays so, its log says why"
    return Check("kernel", False, f"{detail}: {again}")


def _check_models(config: Config) -> Iterator[Check]:
    yield from _check_ollama(config)
    for entry in config.entries:
        if (metrics := metrics_url(entry)) is not None:
            yield _check_shared(entry.name, metrics)
        if not entry.hostname:
            continue
        place, name = shown_address(entry.hostname), f"model {entry.name}"
        try:
            parts = urlsplit(entry.hostname)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), REACH_S).close()
            yield Check(name, True, place)
        except OSError as error:
            yield Check(name, False, f"{place} does not answer: {error}")


def _check_ollama(config: Config) -> Iterator[Check]:
    """Whether Ollama tells which models are loaded."""
    loading = Loading()
    loading.use(config.entries)
    for host in sorted({*loading.hosts.values()}):
        place = shown_address(host)
        try:
            loading.look(host, fetched)
        except (OSError, ValueError) as error:
            detail = f"{place}/api/ps: {error}; what loading costs is not known"
            yield Check("ollama", None, detail)
        else:
            yield Check("ollama", True, f"{place} tells which models are loaded")


def _check_shared(name: str, url: str) -> Check:
    """Whether a server that others use, too, tells how busy it is."""
    try:
        busy = requests_in(fetched(url))
    except (OSError, ValueError) as error:
        told = f"{shown_address(url)}: {error}; start vLLM as usual, SGLang with --enable-metrics, "
        return Check(f"model {name}: load", False, f"{told}llama.cpp with --metrics")
    return Check(f"model {name}: load", True, f"{busy} requests run or wait there")
