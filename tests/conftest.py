"""What several test files need: a recorded battle, a simulator, object stores.

After each test gin and torch are as they were, and before each SIGTERM ends the process.
"""

import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support.paths import BATTLE_FILES, TESTS

if TYPE_CHECKING:
    from gemma_metamon.showdown.simulator.server import Server

# on a machine that does much else, any step may be slow; and what a fixture makes is the same for each example
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")

_poke_env = importlib.util.find_spec("poke_env")
if _poke_env is not None and not (Path(_poke_env.origin or "").parent / "battle").exists():
    # metamon's fork, which excludes the one that battles here need: only the files with `upstream` tests are for it,
    # which say so themselves or share the mark of support.metamon_runs
    collect_ignore = [
        str(path)
        for path in TESTS.rglob("test_*.py")
        if not any(
            mark in path.read_text(encoding="utf-8") for mark in ("mark.upstream", "from support.metamon_runs import")
        )
    ]


@pytest.fixture(autouse=True)
def _clear_gin() -> Iterator[None]:
    yield
    import gin

    gin.clear_config()


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    """A script may choose how many threads torch has; sums of another number of them differ in the last digits."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    yield
    if torch and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_handler_of_sigterm() -> None:
    """As a process begins: whatever starts the tests may ignore it, and Ray leaves a handler that ends the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture
def battle_file() -> Path:
    """A gen9ou battle with switches, terastallisation and a result."""
    return next(path for path in BATTLE_FILES if "gen9ou-0355040679" in path.name and "edge" not in str(path))


@pytest.fixture(scope="module")
def server() -> "Iterator[Server]":
    """A simulator for the tests of one file; to be asked for by tests that are marked with `server`."""
    from gemma_metamon.showdown.simulator.server import running_server

    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs the extra: pip install 'gemma-metamon[s3]'")
    server = pytest.importorskip("moto.server", reason="needs S3 to speak to: pip install 'moto[server]'")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def gs_server() -> Iterator[str]:
    pytest.importorskip("gcsfs", reason="needs the extra: pip install 'gemma-metamon[gs]'")
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="needs gcp-storage-emulator from PyPI")
    running = emulator.create_server("127.0.0.1", 0, in_memory=True)
    running.start()
    yield f"http://127.0.0.1:{running._api._httpd.server_port}"
    running.stop()


@pytest.fixture(params=["memory", "s3", "gs"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The address of an empty place in a store."""
    monkeypatch.setenv("GEMMA_METAMON_CACHE", str(tmp_path / "cache"))
    if request.param == "memory":
        from fsspec.implementations.memory import MemoryFileSystem

        monkeypatch.setattr(MemoryFileSystem, "store", {})
        monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
        return "memory://bucket"
    bucket = f"bucket{abs(hash(tmp_path)) % 10**9}"
    if request.param == "gs":
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gs_server"))
        import gcsfs

        gcsfs.GCSFileSystem.clear_instance_cache()
        gcsfs.GCSFileSystem(token="anon").mkdir(bucket)
        return f"gs://{bucket}"
    url = request.getfixturevalue("s3_server")
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}"
