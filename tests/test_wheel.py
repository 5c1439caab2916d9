"""The built wheel holds all that the package needs, and works with the source out of sight."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

MAX_BATTLES_BYTES = 12 * 1024**2


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_asset(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    packaged = {name.removeprefix("gemma_metamon/") for name in sizes}
    for folder in ("gemma_metamon", "gin_configs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT / "gemma_metamon" if folder == "gemma_metamon" else ROOT)
                assert relative.as_posix() in packaged
    assert sum(size for name, size in sizes.items() if name.endswith(".tar.xz")) < MAX_BATTLES_BYTES
    assert not [name for name in sizes if name.startswith(("tests/", "scripts/"))]


@pytest.mark.slow
def test_the_wheel_works_without_the_source(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    code = (
        "import gemma_metamon, pathlib; from gemma_metamon.commands import main;"
        f"assert pathlib.Path(gemma_metamon.__file__).is_relative_to({str(site)!r});"
        "raise SystemExit(main(['configs', 'show', 'gemma_tiny_multitaskagent.gin']))"
    )
    # before the editable install's own entry on the path
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "timestep_dim         256" in done.stdout


@pytest.mark.slow
@pytest.mark.server
def test_the_wheel_trains_and_plays_in_an_empty_folder(wheel: Path) -> None:
    """As the workflow does, but with the packages of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"WHEEL_PYTHON": sys.executable, "UPDATES": "1"}
    use = ["bash", str(ROOT / "scripts" / "use_wheel.sh"), str(wheel)]
    done = subprocess.run(use, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the wheel trains and plays without the source\n")
