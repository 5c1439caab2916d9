"""What `gemma-metamon doctor` looks at: a function for each thing, which answers with rows and raises nothing."""

import importlib
import importlib.metadata
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gemma_metamon
from gemma_metamon.checklist import Row
from gemma_metamon.errors import GemmaMetamonError
from gemma_metamon.extras import EXTRAS, is_installed

if TYPE_CHECKING:
    import torch

LEAST_FREE_GB: Final = 5.0
"""Below this a long run's checkpoints may not fit: the flagship's is 2.4 GB with its optimizer."""
_LIBRARIES: Final = ("transformers", "peft", "accelerate", "safetensors", "gin-config", "pyarrow")
WANTED_FOR: Final = {
    "4bit": "the 4-bit configs and --use_4bit",
    "battle": "collect, evaluate, ladder, improve",
    "envs": "gymnasium and PettingZoo environments",
    "gguf": "export for llama.cpp",
    "language": "chat data, sft, players that are chat models",
    "mlx": "export for MLX",
    "openenv": "battles as an OpenEnv environment",
    "ray": "collect, evaluate, prepare, improve on several machines",
    "report": "report, charts, ratings",
    "serve": "serve, monitor",
    "sweep": "sweeps over values",
    "vertex": "chat submit",
    "vision": "scenes, vlm, players that see",
    "wandb": "--log, and sweeps whose values wandb draws",
}


def look(*, offline: bool) -> Iterator[Row]:
    """A row for each thing, in the order in which they build on each other.

    Args:
        offline: no server is asked; what only a server can tell is untried.
    """
    yield from _package()
    yield from _torch()
    for name in _LIBRARIES:
        yield _library(name)
    for extra, packages in EXTRAS.items():
        yield _extra(extra, packages)
    if is_installed("bitsandbytes"):
        yield _bitsandbytes()
    yield from _simulator()
    yield _weights(offline)
    if is_installed("wandb"):
        yield _wandb(offline)
    yield _upstream()
    yield from _folders()


def _package() -> Iterator[Row]:
    wanted = importlib.metadata.metadata("gemma-metamon")["Requires-Python"]
    # an older Python has not got as far as this line
    yield Row(name="Python", state="ok", found=f"{platform.python_version()} ({wanted} wanted) at {sys.executable}")
    place = Path(gemma_metamon.__file__).parent
    yield Row(name="gemma_metamon", state="ok", found=f"{gemma_metamon.__version__} at {place}")


def _torch() -> Iterator[Row]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of CUDA's that cannot be loaded
        yield Row(
            name="torch", state="wrong", found=_sentence(error), mend="pip install --force-reinstall gemma-metamon"
        )
        return
    yield Row(name="torch", state="ok", found=f"{torch.__version__}, {torch.get_num_threads()} threads")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield _device(device)
    yield _attention(device)


def _device(device: "torch.device") -> Row:
    import torch

    if device.type == "cpu":
        built = torch.version.cuda
        found = f"none that torch can use (it is built for {f'CUDA {built}' if built else 'the CPU alone'})"
        return Row(
            name="GPU", state="absent", found=found, mend="wanted for Gemma 3 270M; the tiny configs train on a CPU"
        )
    try:
        torch.ones(64, 64, device=device).matmul(torch.ones(64, 64, device=device)).sum().item()
    except RuntimeError as error:
        return Row(
            name="GPU", state="wrong", found=_sentence(error), mend="install a torch that is built for this driver"
        )
    properties = torch.cuda.get_device_properties(device)
    memory = f"{properties.total_memory / 2**30:.0f} GiB"
    bf16 = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
    count = torch.cuda.device_count()
    return Row(
        name="GPU", state="ok", found=f"{count} x {properties.name}, {memory}, {bf16}, CUDA {torch.version.cuda}"
    )


def _attention(device: "torch.device") -> Row:
    """Which of torch's kernels run a causal attention of Gemma's head size here."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kernels = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "plain": SDPBackend.MATH,
    }
    q = torch.zeros(1, 1, 16, 256, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    runs, seen_wrong = [], ""
    for name, kernel in kernels.items():
        try:
            with sdpa_kernel(kernel):
                torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
            runs.append(name)
        except RuntimeError as error:  # not made for this device, dtype or size
            seen_wrong = _sentence(error)
    if not runs:
        return Row(name="attention", state="wrong", found=seen_wrong, mend="install another torch")
    return Row(name="attention", state="ok", found=f"torch's kernels that run here: {', '.join(runs)}")


def _library(name: str) -> Row:
    module = {"gin-config": "gin"}.get(name, name)
    return _works(name, lambda: importlib.import_module(module), mend=f"pip install --force-reinstall {name}")


def _bitsandbytes() -> Row:
    def quantize() -> None:
        import torch
        from bitsandbytes.functional import quantize_4bit

        device = "cuda" if torch.cuda.is_available() else "cpu"
        quantize_4bit(torch.ones(64, 64, device=device), quant_type="nf4")

    return _works("bitsandbytes", quantize, mend="install one that is built for this torch and device")


def _works(name: str, attempt: Callable[[], object], *, mend: str) -> Row:
    """The row of an installed package that is tried out."""
    try:
        version = importlib.metadata.version(name)
        attempt()
    except (ImportError, OSError, RuntimeError, AttributeError, ValueError) as error:
        return Row(name=name, state="wrong", found=_sentence(error), mend=mend)
    return Row(name=name, state="ok", found=version)


def _extra(extra: str, packages: tuple[str, ...]) -> Row:
    missing = [package for package in packages if not is_installed(package)]
    name = f"[{extra}]"
    if not missing:
        return Row(name=name, state="ok", found=", ".join(packages))
    mend = f"pip install 'gemma-metamon[{extra}]', for {WANTED_FOR[extra]}"
    return Row(name=name, state="absent", found=f"without {', '.join(missing)}", mend=mend)


def _simulator() -> Iterator[Row]:
    from gemma_metamon.showdown.simulator import installation

    try:
        node = installation.find_node()
    except GemmaMetamonError as error:
        yield Row(name="Node.js", state="absent", found=_sentence(error), mend="wanted wherever battles are played")
        return
    yield Row(name="Node.js", state="ok", found=node)
    name, version = "simulator", installation.pinned_version()
    if not installation.package_folder().is_dir():
        npm = shutil.which("npm")
        yield Row(
            name=name,
            state="absent" if npm else "wrong",
            found=f"pokemon-showdown {version} is not installed yet" + ("" if npm else ", and there is no npm"),
            mend="the first battle installs it by npm (about 150 MB)"
            if npm
            else "install npm, which comes with Node.js",
        )
        return
    try:
        installation.ask_simulator("read a team", "teams.js", "pack", given=["Tauros\n- Body Slam\n"])
    except GemmaMetamonError as error:
        mend = f"delete {installation.package_folder().parent.parent}; the next battle installs it again"
        yield Row(name=name, state="wrong", found=_sentence(error), mend=mend)
    else:
        yield Row(name=name, state="ok", found=f"pokemon-showdown {version} at {installation.package_folder()}")


def _weights(offline: bool) -> Row:
    from gemma_metamon.nets.reader.weights import GEMMA_3_270M, check_weights

    if offline:
        return Row(name="Gemma's weights", state="untried", found="not asked, because of --offline")
    try:
        check_weights()
    except GemmaMetamonError as error:
        found = _sentence(error)
        return Row(name="Gemma's weights", state="absent", found=found, mend="the tiny configs need none")
    return Row(name="Gemma's weights", state="ok", found=f"{GEMMA_3_270M} is in the cache, or may be downloaded")


def _wandb(offline: bool) -> Row:
    from gemma_metamon.training.tracking import require_answer

    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb

        settings, key = wandb.setup().settings, wandb.api.api_key
        if settings.mode == "disabled":
            return Row(name="wandb", state="ok", found=f"{wandb.__version__}, which its own settings disable")
        if not key:
            found = f"{wandb.__version__}; no key, so --log records offline"
            return Row(name="wandb", state="ok", found=found, mend="`wandb login` or WANDB_API_KEY, to see runs online")
        if offline or settings.mode == "offline":
            return Row(name="wandb", state="untried", found=f"{wandb.__version__} with a key; its server was not asked")
        require_answer(settings.base_url)
    except OSError as error:
        mend = "--log records offline, and `wandb sync` uploads later"
        return Row(name="wandb", state="untried", found=_sentence(error), mend=mend)
    except (ImportError, ValueError, RuntimeError, AttributeError) as error:  # ValueError: its WANDB_... variables
        return Row(
            name="wandb", state="wrong", found=_sentence(error), mend="mend its WANDB_... variables, or leave --log out"
        )
    return Row(name="wandb", state="ok", found=f"{wandb.__version__} with a key; {settings.base_url} answers")


def _upstream() -> Row:
    from gemma_metamon.upstream import versions

    found = [versions.find_installed(name, name) for name in ("metamon", "amago")]
    if all(package.folder is None for package in found):
        mend = "not needed: `gemma-metamon train` does without. Inside metamon: docs/tutorials/inside_metamon.md"
        return Row(name="metamon", state="absent", found="neither metamon nor amago is installed", mend=mend)
    words = ", ".join(
        f"{package.name} {'not installed' if package.folder is None else package.version}" for package in found
    )
    return Row(name="metamon", state="untried", found=words, mend="`gemma-metamon upstream check` tries them out")


def _folders() -> Iterator[Row]:
    from gemma_metamon.user_cache import VARIABLE, cache_folder

    yield _folder("cache", cache_folder(), f"name another by {VARIABLE}")
    yield _folder("this folder", Path.cwd(), "go to another, or give --save_dir and --out")


def _folder(name: str, folder: Path, mend: str) -> Row:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return Row(name=name, state="wrong", found=f"{folder} may not be written to", mend=mend)
    free_gb = shutil.disk_usage(existing).free / 1e9
    found = f"{folder}, {free_gb:.0f} GB free"
    if free_gb < LEAST_FREE_GB:
        return Row(name=name, state="untried", found=found, mend=f"a long run may not fit; {mend}")
    return Row(name=name, state="ok", found=found)


def _sentence(error: BaseException) -> str:
    return textwrap.shorten(str(error), 500, placeholder=" ...") or type(error).__name__
