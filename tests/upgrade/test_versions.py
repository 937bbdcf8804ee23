"""State of 0.1.0 is opened by this version; what a later one wrote is refused with a sentence."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from make_state import CONFIG, Circle
from redis import Redis
from typer.testing import CliRunner
from waiting import until

from aios_eccos.cli.main import app
from aios_eccos.collect.journal import Journal
from aios_eccos.config import parse_settings
from aios_eccos.errors import ArtifactError, DataError, EccosError, HistoryError, KernelError
from aios_eccos.floor.certify import read_papers
from aios_eccos.forecast.head.artifact import load_head
from aios_eccos.history.client import close_client, open_folder
from aios_eccos.history.open import open_history
from aios_eccos.kernel.engine_setup import open_engine
from aios_eccos.kernel.setup import install, interpreter
from aios_eccos.locate import Config, Location, state_dir_of
from aios_eccos.observe.trace import read_traces
from aios_eccos.verdicts.keys import load_secret
from aios_eccos.workload.connect import open_workload
from aios_eccos.workload.store import WorkloadStore

ARCHIVES = sorted(Path(__file__).parent.glob("state-*.tar.gz"))
#: What every sentence names beside the file and both formats.
REMEDY = "upgrade aios-eccos, or "


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name)
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout that an earlier version has switched on, with the state it has left."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.setenv("AIOS_ECCOS_STATE", str(tmp_path / "state"))
    found = {"version": [3, 11], "site": str(tmp_path / "site"), "lacks": [], "plugin": "here"}
    monkeypatch.setattr(interpreter, "probe", lambda python: found)
    monkeypatch.setattr(install, "check_contract", lambda home: None)
    (folder,) = (tmp_path / "state").glob("?" * 12)
    folder.rename(state_dir_of(tmp_path / "AIOS"))
    return tmp_path / "AIOS"


def embedded(home: Path, **options: object) -> WorkloadStore:
    return open_workload("embedded", state_dir=state_dir_of(home), timeout_s=60, **options)  # type: ignore[arg-type]


def test_all_that_an_earlier_version_left_is_opened(home: Path) -> None:
    state = state_dir_of(home)
    store = embedded(home)
    assert store.read_prices() == {"floor:": 1.5}
    assert store.notes(["kept"]) == ["a note"]
    (trace,) = read_traces(store.decisions(10))
    assert (trace.model, trace.options[0].success) == ("small", 0.9)
    assert store.events(10)[0][1]["what"] == "mode"
    assert store.sums(["total"])[0]["calls"] == 1
    store.close()
    history = open_history("embedded", state, Circle())
    assert len(history.compared()) == 80
    history.close()
    assert load_head(state / "head.safetensors", embedder="circle").models == ("large", "small")
    assert [*read_papers((state / "certificates.json").read_text())] == [""]
    with Journal(home.parent / "journal.jsonl") as journal:
        assert [answer.question for answer in journal.answers] == ["q1"]
    assert len(load_secret(state)) == 32


def test_what_an_earlier_version_switched_on_is_switched_off_byte_for_byte(home: Path) -> None:
    assert "is in place already" in "\n".join(install.enable(home))
    assert any("byte for byte" in line for line in install.disable(home))
    assert (home / "aios/config/config.yaml").read_text() == CONFIG


def of_the_future(path: Path, known: str) -> None:
    """Let a JSON file be of a later version."""
    text = path.read_text().replace(f"{known}/1", f"{known}/2")
    if f"{known}/2" not in text:
        text = json.dumps({"schema": f"{known}/2", **json.loads(text)})
    path.write_text(text)


def said_of(error: EccosError, place: object, found: object, known: object) -> None:
    said = str(error)
    assert str(place) in said and repr(found) in said and repr(known) in said
    assert REMEDY in said


def test_a_later_versions_note_of_what_was_switched_on_is_left_alone(home: Path) -> None:
    path = state_dir_of(home) / install.NOTE
    of_the_future(path, "aios-eccos/enabled")
    before = path.read_bytes(), (home / "aios/config/config.yaml").read_bytes()
    for act in (install.enable, install.disable):
        with pytest.raises(KernelError) as refused:
            act(home)
        said_of(refused.value, path, "aios-eccos/enabled/2", "aios-eccos/enabled/1")
    assert (path.read_bytes(), (home / "aios/config/config.yaml").read_bytes()) == before


def test_a_later_versions_head_is_refused(home: Path) -> None:
    path = state_dir_of(home) / "head.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(rb"\"format\": 2", rb"\"format\": 3"))
    with pytest.raises(ArtifactError) as refused:
        load_head(path, embedder="circle")
    said_of(refused.value, path, 3, 2)


def test_a_later_versions_history_is_refused_and_kept(home: Path) -> None:
    state = state_dir_of(home)
    client = open_folder(state / "history/chroma")
    for name in ("eccos_history", "eccos_history_unjudged"):
        rows = client.get_collection(name, embedding_function=None)
        rows.modify(metadata={**rows.metadata, "schema": 5})
    close_client(client)
    with pytest.raises(HistoryError) as refused:
        open_history("embedded", state, Circle())
    said_of(refused.value, state / "history", 5, 4)


def test_later_versions_certificates_are_refused(home: Path) -> None:
    path = state_dir_of(home) / "certificates.json"
    of_the_future(path, "aios-eccos/certificates")
    with pytest.raises(DataError) as refused:
        read_papers(path.read_text())
    said_of(refused.value, "", "aios-eccos/certificates/2", "aios-eccos/certificates/1")
    shown = CliRunner().invoke(app, ["certify", "--check", str(path)])
    assert shown.exit_code == 1
    assert path.name in str(shown.exception or shown.output)


def test_a_later_versions_journal_is_refused_and_kept(home: Path) -> None:
    path = home.parent / "journal.jsonl"
    of_the_future(path, "aios-eccos/collect-journal")
    before = path.read_bytes()
    with pytest.raises(DataError) as refused:
        Journal(path)
    said_of(refused.value, path, "aios-eccos/collect-journal/2", "aios-eccos/collect-journal/1")
    assert path.read_bytes() == before


def test_a_later_versions_namespace_is_refused_by_kernels_and_look_ups(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = state_dir_of(home)
    keeper = embedded(home, namespace="other")
    with Redis(unix_socket_path=(state / "redis/socket").read_text()) as client:
        client.set("eccos:{default}:format", 2)
        before = sorted(client.keys("eccos:{default}:*"))
        for options in ({}, {"member": False}, {"required": False}):
            with pytest.raises(EccosError) as refused:
                embedded(home, **options)
            said_of(refused.value, "namespace 'default'", 2, 1)
        settings = parse_settings({"embedder": "./none", "history": "embedded"})
        engine = open_engine(Config(Location(None, None, state, "test"), settings, ()))
        engine.close()
        assert "limits hold in this kernel only: Redis at" in caplog.text
        assert sorted(client.keys("eccos:{default}:*")) == before, "nothing of ours beside theirs"
    keeper.close()


def test_kernels_mark_their_namespace_and_look_ups_do_not(home: Path) -> None:
    keeper = embedded(home)
    with Redis(unix_socket_path=(state_dir_of(home) / "redis/socket").read_text()) as client:
        embedded(home, member=False, namespace="looked").close()
        assert client.get("eccos:{looked}:format") is None
        keeper.renew()

        until(lambda: client.get("eccos:{default}:format") == b"1")
        for foreign in (b"", b"x", b"-3", b"1.5", b"\xff"):
            client.set("eccos:{default}:format", foreign)
            embedded(home, member=False).close()
    keeper.close()


def test_a_later_versions_setting_is_refused_by_its_key() -> None:
    with pytest.raises(EccosError, match="setting_of_tomorrow"):
        parse_settings({"quality_floor": 0.9, "setting_of_tomorrow": 1})


def test_the_archives_are_small_and_one_a_version() -> None:
    assert ARCHIVES
    assert all(path.stat().st_size < 100_000 for path in ARCHIVES)
