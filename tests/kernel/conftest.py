"""The kernel under test: the stand-in, or the real one when its two checkouts are named."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from integration.kernel import base_config, copy_aios, homes  # noqa: E402
from integration.stubs import Stubs  # noqa: E402

STANDIN = Path(__file__).with_name("standin")
MODELS = {"small": 0.1, "large": 0.2}


class InProcess:
    """A kernel imported into this process, with the plugin in it."""

    def __init__(self, home: Path, stubs: Stubs) -> None:
        self.home = home
        self.stubs = stubs
        self.config = self.stock_config()
        self.launch: Any = None

    def stock_config(self) -> dict[str, Any]:
        models = [
            {
                "name": name,
                "backend": backend,
                "hostname": self.stubs.url(name),
                "concurrency": 8,
                "input_cost_per_token": price,
                "output_cost_per_token": price,
                "strength": strength,
            }
            for name, backend, price, strength in (
                ("small", "vllm", 1e-7, 0.5),
                ("large", "sglang", 1e-6, 0.9),
            )
        ]
        settings = {
            "redis": "memory",
            "embedder": "./no-such-folder",
            "call_timeout_s": 8.0,
            "cooldown_s": 0.0,
        }
        return base_config(models, 0, {"strategy": "eccos", "eccos": settings})

    def write(self, **changes: Any) -> None:
        """Write the configuration, with changes to the `eccos` block."""
        config = self.stock_config()
        config["llms"]["router"]["eccos"] |= changes
        self.config = config
        self.write_raw(config)

    def write_raw(self, config: dict[str, Any]) -> None:
        path = self.home / "aios/config/config.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def start(self) -> None:
        if homes() is not None:
            self._without_redis()
        self.launch = importlib.import_module("runtime.launch")

    def _without_redis(self) -> None:
        """AIOS's storage looks for a Redis of its own for three seconds at every refresh."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        storage = importlib.import_module("aios.storage.filesystem.lsfs")
        quick = functools.partial(redis.Redis, retry=Retry(NoBackoff(), 0))
        found = SimpleNamespace(Redis=quick, ConnectionError=redis.ConnectionError)
        storage.redis = found  # type: ignore[attr-defined]

    def refresh(self, **changes: Any) -> None:
        """What POST /core/refresh does."""
        self.write(**changes)
        self.reload()

    def reload(self) -> None:
        self.launch.config.refresh()
        self.launch.restart_kernel()

    @property
    def process(self) -> Any:
        from aios_eccos.kernel import hook

        return hook.process()

    @property
    def serving(self) -> Any:
        return self.process.serving

    @property
    def scheduler(self) -> Any:
        return self.process.scheduler

    def ask(self, text: Any = "hello", *, agent: str = "agent", **fields: Any) -> Any:
        """One LLM call as an agent makes it; returns the LLMResponse."""
        return self.execute(self.query(text, **fields), agent)

    def query(self, text: Any = "hello", **fields: Any) -> Any:
        from cerebrum.llm.apis import LLMQuery

        messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
        names = fields.pop("llms", None)
        llms = [{"name": n} if isinstance(n, str) else n for n in names] if names else None
        return LLMQuery(messages=messages, llms=llms, **fields)

    def execute(self, query: Any, agent: str = "agent") -> Any:
        answer = self.launch.execute_request(agent, query)
        return answer["response"] if isinstance(answer, dict) else answer

    def spawn(self, call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
        """Run a call beside the others; the list gets (seconds, result)."""
        got: list[Any] = []

        def work() -> None:
            begun = time.monotonic()
            result = call()
            got.append((time.monotonic() - begun, result))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread, got


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    base = tmp_path_factory.mktemp("kernel")
    real = homes()
    home = base / "AIOS"
    if real is None:
        shutil.copytree(STANDIN, home)
        path = [str(home)]
    else:
        copy_aios(real[0], home)
        path = [str(home), str(real[1])]
    before = Path.cwd()
    os.environ["AIOS_ECCOS_STATE"] = str(base / "state")
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    sys.path[:0] = path
    os.chdir(home)
    from aios_eccos.kernel import boot

    boot.install()
    with Stubs(MODELS) as stubs:
        running = InProcess(home, stubs)
        running.write()
        running.start()
        yield running
        running.serving.close(grace_s=0.5)
        running.scheduler.retire(None)
        running.process.tool_servers.end()
    os.chdir(before)
    for entry in path:
        sys.path.remove(entry)


@pytest.fixture
def fresh(kernel: InProcess) -> Iterator[InProcess]:
    """The kernel, with counters at zero and, afterwards, its first configuration."""
    kernel.stubs.reset()
    for model in kernel.stubs.models:
        kernel.stubs.faults(model, {})
    before = kernel.config
    yield kernel
    if kernel.config != before:
        kernel.config = before
        kernel.write_raw(before)
        kernel.reload()
