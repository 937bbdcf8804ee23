"""Model servers that others use too: how many requests on them are not ours.

They are asked for it off the path of calls, by the metrics that vLLM, SGLang and llama.cpp have.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import urlsplit, urlunsplit

from aios_eccos.config import ModelEntry
from aios_eccos.errors import raised, shown_address
from aios_eccos.serve.ollama import Loading
from aios_eccos.values import Model
from aios_eccos.workload.store import Loads

log = logging.getLogger("aios_eccos.serve.shared_servers")

#: Seconds between two looks, for one answer, and for which it counts.
LOOK_S, ANSWER_S, COUNTS_S = 1.0, 1.0, 5.0
#: Longest text of metrics.
MOST_BYTES = 4_000_000
#: Gauges of requests that run and that wait: vLLM's, SGLang's and llama.cpp's.
GAUGES = (
    ("vllm:num_requests_running", "vllm:num_requests_waiting"),
    ("sglang:num_running_reqs", "sglang:num_queue_reqs"),
    ("llamacpp:requests_processing", "llamacpp:requests_deferred"),
)
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{.*\})?\s+([0-9.eE+-]+)(?:\s+-?\d+)?\s*")


class SharedServers:
    """Looks at the servers of models with `shared_server: true`, and at Ollama, while it runs.

    Args:
        workload: knows the requests that all kernels have in flight. models: the pool in force.

    Attributes:
        loading: which of Ollama's models are loaded.
    """

    def __init__(self, workload: Loads, models: Callable[[], Sequence[Model]]) -> None:
        self._workload, self._models = workload, models
        self.loading = Loading()
        self._urls: dict[str, str] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._faults: dict[str, str] = {}

    def use(self, entries: Sequence[ModelEntry]) -> None:
        """Look at these models' servers from now on."""
        self._urls = {e.name: url for e in entries if (url := metrics_url(e)) is not None}
        self._seen = {name: seen for name, seen in self._seen.items() if name in self._urls}
        self.loading.use(entries)
        if (self._urls or self.loading.hosts) and self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="eccos-shared", daemon=True)
            self._thread.start()
        self._wake.set()

    def others(self) -> dict[str, int]:
        """Requests of others by model, where that is known and not old."""
        oldest = time.monotonic() - COUNTS_S
        return {name: count for name, (count, at) in self._seen.items() if at >= oldest}

    def close(self) -> None:
        """End the thread."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * ANSWER_S)

    def look(self) -> None:
        """Ask every server once, all at the same time: none must wait for those that hang."""
        looks: dict[str, Callable[[], None]] = {
            f"the load of {name}'s server": partial(self._count, name, url)
            for name, url in [*self._urls.items()]
        }
        for host in {*self.loading.hosts.values()}:
            what = f"what Ollama has loaded at {shown_address(host)}"
            looks[what] = partial(self.loading.look, host, fetched)
        threads = [
            threading.Thread(target=self._guarded, args=each, name="eccos-look", daemon=True)
            for each in looks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, what: str, look: Callable[[], None]) -> None:
        """Look; say once what is not known."""
        try:
            look()
            self._faults.pop(what, None)
        except Exception as error:  # noqa: BLE001 - a server may say anything; others are looked at
            if self._faults.get(what) != type(error).__name__:
                log.warning("%s is not known: %s", what, raised(error))
            self._faults[what] = type(error).__name__

    def _count(self, name: str, url: str) -> None:
        # A call that comes or ends meanwhile must not be taken for another's.
        before = self._ours(name)
        busy = requests_in(fetched(url))
        ours = max(before, self._ours(name))
        self._seen[name] = max(busy - ours, 0), time.monotonic()

    def _ours(self, name: str) -> int:
        """Requests of all kernels to a model."""
        limits = {model.slot: model.limit for model in self._models() if model.name == name}
        return sum(load.in_use for load in self._workload.loads(limits).values())

    def _loop(self) -> None:
        while not self._closing:
            self._wake.clear()
            self.look()
            self._wake.wait(LOOK_S)


def metrics_url(entry: ModelEntry) -> str | None:
    """Where a model's server tells its load; None where nobody wants to know."""
    if not entry.shared_server or not entry.hostname:
        return None
    parts = urlsplit(entry.hostname)
    return urlunsplit((parts.scheme, parts.netloc, "/metrics", "", ""))


def fetched(url: str, seconds: float | None = None) -> str:
    """What a model's server says of itself, within so many seconds (default: `ANSWER_S`).

    Raises:
        OSError: it does not answer. ValueError: with none, or with too much.
    """
    import httpx

    from aios_eccos.providers.bounds import within
    from aios_eccos.providers.failures import Broken
    from aios_eccos.providers.transport import proxy_of

    try:
        way = httpx.HTTPTransport(proxy=proxy_of(url), trust_env=False)
        with (
            within(seconds or ANSWER_S, MOST_BYTES),
            httpx.Client(transport=way, timeout=seconds or ANSWER_S, trust_env=False) as client,
        ):
            response = client.get(url)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
        # The last three, of the environment's proxy, may hold its password.
        raise OSError(type(error).__name__) from None
    except Broken:
        raise ValueError("beyond all bounds") from None
    if response.status_code != 200:
        raise ValueError(f"status {response.status_code}")
    return response.content.decode("utf-8", "replace")


def requests_in(text: str) -> int:
    """Requests that run or wait on the server, of all that it serves.

    Raises:
        ValueError: none of the known gauges is in its metrics.
    """
    known = {name for pair in GAUGES for name in pair}
    found: dict[str, float] = {}
    for line in text.splitlines():
        sample = None if line.startswith("#") else _SAMPLE.fullmatch(line)
        if sample is not None and sample[1] in known:
            found[sample[1]] = found.get(sample[1], 0.0) + float(sample[2])
    for running, waiting in GAUGES:
        count = found.get(running, math.inf) + found.get(waiting, 0.0)
        if math.isfinite(count):
            return round(count)
    raise ValueError("no gauge of vLLM, SGLang or llama.cpp")
