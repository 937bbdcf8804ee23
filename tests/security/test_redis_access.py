"""TLS and passwords to a real Redis; what is refused says the key, no secret, and what to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aios_eccos.errors import WorkloadError
from aios_eccos.workload.client import ACL, RefusedPassword
from aios_eccos.workload.connect import open_workload
from integration.hostile.world import redis_server

SECRET, OWN = "hunter2hunter2", "own secret"
USERS = (
    *("--requirepass", SECRET),
    *("--user", "kernel", "on", ">owner-secret", *ACL.split()),
    *("--user", "other", "on", ">other-secret", "~other:*", "+@all"),
)


def openssl(folder: Path, words: str) -> None:
    subprocess.run(["openssl", *words.split()], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA's certificate `ca.crt`, and one of localhost that it has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    openssl(folder, f"req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=ca")
    openssl(folder, f"req {key} -keyout s.key -out s.csr -subj /CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    signed = "-CA ca.crt -CAkey ca.key -CAcreateserial -extfile names"
    openssl(folder, f"x509 -req -in s.csr -out s.crt {signed}")
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path) -> Iterator[str]:
    """Host and port of a Redis that speaks TLS alone and wants a password."""
    files = {"cert": "s.crt", "key": "s.key", "ca-cert": "ca.crt"}
    named = [w for kind, f in files.items() for w in (f"--tls-{kind}-file", str(certificates / f))]
    server = shutil.which("redis-server")
    if server is None or b"libssl" not in subprocess.check_output(["ldd", server]):
        pytest.skip("no redis-server with TLS on PATH")
    with redis_server(*named, "--tls-auth-clients", "no", *USERS, tls=True) as port:
        yield f"localhost:{port}"


@pytest.mark.parametrize("who", [f":{SECRET}", "kernel:owner-secret"])
def test_a_kernel_lends_over_tls_as_a_user(secured: str, certificates: Path, who: str) -> None:
    url = f"rediss://{who}@{secured}?ssl_ca_certs={certificates}/ca.crt"
    store = open_workload(url, state_dir=Path("unused"), timeout_s=60)
    store.set_prices({"floor:": 1.5})
    store.push_inbox([b"[]"])
    store.renew()
    assert store.read_prices() == {"floor:": 1.5}
    assert not store.degraded
    store.close()


@pytest.mark.parametrize(
    ("who", "options", "remedy"),
    [
        (f":{SECRET}", "", "ssl_ca_certs=FILE"),
        (f":{SECRET}", "?ssl_ca_certs={folder}/s.key", "ssl_ca_certs=FILE"),
        (":wrong-secret", "?ssl_ca_certs={folder}/ca.crt", "redis://USER:PASSWORD@HOST"),
        ("nobody:wrong-secret", "?ssl_ca_certs={folder}/ca.crt", "redis://USER:PASSWORD@HOST"),
        ("other:other-secret", "?ssl_ca_certs={folder}/ca.crt", "~eccos:*"),
    ],
)
@pytest.mark.parametrize("member", [True, False])
def test_who_is_refused_is_told_what_to_do_and_no_secret(
    secured: str, certificates: Path, who: str, options: str, remedy: str, member: bool
) -> None:
    url = f"rediss://{who}@{secured}{options.format(folder=certificates)}"
    with pytest.raises(WorkloadError) as failed:
        open_workload(url, state_dir=Path("unused"), member=member, timeout_s=60)
    said = str(failed.value)
    assert secured in said and remedy in said
    assert "secret" not in said and SECRET not in said


def test_a_plain_password_is_checked_at_the_start(tmp_path: Path) -> None:
    with redis_server("--requirepass", SECRET) as port:
        for who in ("", ":wrong@", "user:wrong@"):
            with pytest.raises(RefusedPassword, match="the setting `redis` names them"):
                open_workload(f"redis://{who}127.0.0.1:{port}", state_dir=tmp_path, timeout_s=60)
        url = f"redis://:{SECRET}@127.0.0.1:{port}"
        open_workload(url, state_dir=tmp_path, timeout_s=60).close()
