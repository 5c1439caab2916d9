"""Stand-ins for amago and metamon, and a process of its own to use them in: upstream's names in gin exclude ours.

Their gin configurables are made from goldens/signatures: each under its full name, with its parameters and no others.
An instance keeps what it was called with. The rest is as little as the plugin and the evaluation ask of the real ones.
"""

import argparse
import concurrent.futures
import inspect
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import torch
from support.paths import GOLDENS
from support.small_agent import TINY

from gemma_metamon.configs.files import find_config
from gemma_metamon.nets.reader.tstep_encoder import GemmaTstepEncoder

METAMON_TO_AMAGO = "metamon.rl.metamon_to_amago"
ACTIONS = 13
TOKENIZERS = ("MetamonTstepEncoder.tokenizer", "MetamonPerceiverTstepEncoder.tokenizer")
DEFAULT_WORDS = ("<move>", "greattusk", "surf", "<blank>")
"""What the stand-in of metamon's default word list holds."""
SIGNATURES = {path.stem.removeprefix("metamon-"): path for path in (GOLDENS / "signatures").glob("*.json")}

T = TypeVar("T")
_SLOW_IMPORTS = (
    "gin",
    "pytest",
    "torch._dynamo",
    "transformers.models.auto.modeling_auto",
    "transformers.models.gemma3.modeling_gemma3",
    "gemma_metamon.upstream.metamon_process",
)
_START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def run(function: Callable[..., T], *args: Any) -> T:
    """`function(*args)`, a function of a test module, in a new process; what it returns or raises comes back."""
    context = multiprocessing.get_context(_START_METHOD)
    context.set_forkserver_preload([*_SLOW_IMPORTS])
    with concurrent.futures.ProcessPoolExecutor(1, context, torch.set_num_threads, (1,)) as executor:
        return executor.submit(function, *args).result(timeout=120)


class Tokenizer:
    """What metamon's PokemonTokenizer has of use: `all_words`, and an id for each, in any order."""

    def __init__(self, ids: dict[str, int] | None = None) -> None:
        self.load_tokens(ids or {})

    def load_tokens(self, ids: dict[str, int]) -> "Tokenizer":
        self.ids = ids
        return self

    @property
    def all_words(self) -> list[str]:
        return list(self.ids)

    def __getitem__(self, word: str) -> int:
        return self.ids.get(word, -1)


def install(
    amago: str = "3.1.1",
    metamon: str = "1.4.0",
    *,
    masked_in: str = "experiment",
    without: Sequence[str] = (),
) -> None:
    """Puts the stand-ins into this process.

    Args:
        amago: its version; from 3.3 on, missing actions are masked in the agent.
        metamon: its version; the signatures are those of the recorded one of that time of amago.
        masked_in: where metamon masks missing actions, "experiment" or "agent".
        without: names of metamon's classes to leave out.
    """
    path = SIGNATURES["1.6.0"] if amago >= "3.3" else SIGNATURES.get(metamon, SIGNATURES["1.4.0"])
    for selector, parameters in json.loads(path.read_text())["parameters"].items():
        module, _, name = selector.rpartition(".")
        if name not in without:
            setattr(_module(module), name, _configurable(module, name, parameters))
    _module("amago").__version__ = amago
    _module("metamon").__version__ = metamon
    _module("amago").Experiment = experiment = type("Experiment", (), {})
    if amago < "3.3":
        experiment.edit_actor_mask = _edit_actor_mask
    if masked_in == "experiment":
        _module(METAMON_TO_AMAGO).MetamonAMAGOExperiment.edit_actor_mask = _edit_actor_mask
    transformer = _module("amago.nets.transformer")
    transformer.flash_attn = None
    _module("amago.nets.traj_encoders").TrajEncoder = type("TrajEncoder", (), {"__init__": _take_sizes})  # nor this one
    transformer.VanillaAttention = type("VanillaAttention", (), {})  # gin does not know this one
    tokenizer = _module("metamon.tokenizer")
    tokenizer.PokemonTokenizer = Tokenizer
    tokenizer.asked = []
    tokenizer.get_tokenizer = _get_tokenizer


def find_packages_in(folder: Path) -> None:
    """Lets this process find the packages in a folder before all others, and none of an editable installation's."""
    sys.path.insert(0, str(folder))
    sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in getattr(finder, "__name__", "")]


def parse_as_metamon_does(
    *files: str, tokenizer: Any = None, bound: Sequence[str] = TOKENIZERS, finalize: bool = True
) -> None:
    """Binds the tokenizer to its own encoders, then reads the model's and the training's config, then locks gin."""
    import gin

    for name in bound:
        gin.bind_parameter(name, Tokenizer(word_ids(DEFAULT_WORDS)) if tokenizer is None else tokenizer)
    for file in files:
        gin.parse_config_file(file)
    if finalize:
        gin.finalize()


def model_file(name: str = TINY) -> str:
    return str(find_config(name, "models"))


def training_file(name: str = "binary_rl.gin") -> str:
    return str(find_config(name, "training"))


def spaces(words: int = 6, numbers: int = 3) -> dict[str, Any]:
    shapes = {"text_tokens": SimpleNamespace(shape=(words,)), "numbers": SimpleNamespace(shape=(numbers,))}
    return {"obs_space": shapes, "rl2_space": SimpleNamespace(shape=(1 + ACTIONS,))}


def build_encoder(**sizes: int) -> GemmaTstepEncoder:
    """As amago does: the class that gin has bound, called with the spaces alone."""
    torch.manual_seed(0)
    experiment = sys.modules[METAMON_TO_AMAGO].MetamonAMAGOExperiment()
    return experiment.given["tstep_encoder_type"](**spaces(**sizes)).eval()


def complaint_of(function: Any, *args: Any, **options: Any) -> tuple[list[str], str]:
    """The names of an error's classes, and its sentence; gin's own kind of error cannot leave a process."""
    try:
        function(*args, **options)
    except Exception as error:  # noqa: BLE001
        return [kind.__name__ for kind in type(error).__mro__], str(error)
    return [], ""


def word_ids(words: Sequence[str]) -> dict[str, int]:
    return {word: index for index, word in enumerate(words)}


def install_train_script(program: str, argv: Sequence[str]) -> None:
    """Makes this process look like `python -m PROGRAM`, with the flags of metamon.rl.train."""
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec(program, None)
    main.add_cli = _add_train_cli
    sys.modules["__main__"] = main
    sys.argv = ["train.py", *argv]


def _add_train_cli(parser: argparse.ArgumentParser) -> None:
    for flag in ("--run_name", "--save_dir", "--model_gin_config", "--train_gin_config"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--obs_space", default="TeamPreviewObservationSpace")
    parser.add_argument("--action_space", default="DefaultActionSpace")
    parser.add_argument("--reward_function", default="DefaultShapedReward")
    parser.add_argument("--tokenizer", default="DefaultObservationSpace-v1")


def _module(name: str) -> Any:
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = []
        module.__spec__ = ModuleSpec(name, None, is_package=True)
        sys.modules[name] = module
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(_module(parent), child, module)
    return sys.modules[name]


def _configurable(module: str, name: str, parameters: Sequence[str]) -> Any:
    import gin

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD  # all of upstream's are

    def __init__(self: Any, **given: Any) -> None:  # noqa: N807
        self.given = given

    __init__.__signature__ = inspect.Signature([inspect.Parameter(one, kind) for one in ("self", *parameters)])
    return gin.configurable(name, module=module)(type(name, (), {"__init__": __init__, "__module__": module}))


def _take_sizes(self: Any, tstep_dim: int, max_seq_len: int) -> None:
    self.tstep_dim, self.max_seq_len = tstep_dim, max_seq_len


def _edit_actor_mask(self: Any, batch: Any, loss: Any, mask: Any) -> Any:
    return mask


def _get_tokenizer(name: str) -> Tokenizer:
    _module("metamon.tokenizer").asked.append(name)
    return Tokenizer(word_ids(DEFAULT_WORDS))


def install_evaluation(module: str = "metamon.rl.evaluate") -> list[dict[str, Any]]:
    """Stand-ins of metamon's evaluation, their functions in that module.

    The list gets what it was asked to evaluate, built as far as the encoder.
    """
    models: dict[str, Any] = {}
    evaluated: list[dict[str, Any]] = []

    class LocalPretrainedModel:
        def __init__(self, **given: Any) -> None:
            self.given = given

    def pretrained_model(name: str) -> Callable[[T], T]:
        def register(model: T) -> T:
            models[name] = model
            return model

        return register

    def add_cli(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--agent", required=True, choices=sorted(models))
        parser.add_argument("--checkpoints", type=int, nargs="+", default=[None])
        parser.add_argument(
            "--eval_type", required=True, choices=["heuristic", "il", "ladder", "pokeagent", "challenge"]
        )
        parser.add_argument("--gens", type=int, nargs="+", default=[1])
        parser.add_argument("--formats", nargs="+", default=["ou"])
        parser.add_argument("--total_battles", type=int, default=10)
        for flag in ("--username", "--opponent_username", "--role", "--battle_backend"):
            parser.add_argument(flag)

    def evaluate(args: argparse.Namespace) -> None:
        given = models[args.agent]().given
        files = (given["model_gin_config"], given["train_gin_config"])
        parse_as_metamon_does(*files, tokenizer=given["tokenizer"], bound=TOKENIZERS[:1], finalize=False)
        evaluated.append({**given, **vars(args), "emb_dim": build_encoder().emb_dim})

    _module("metamon.env.wrappers")
    pretrained, script = _module("metamon.rl.pretrained"), _module(module)
    pretrained.LocalPretrainedModel, pretrained.pretrained_model = LocalPretrainedModel, pretrained_model
    script.add_cli, script._run_default_evaluation = add_cli, evaluate
    for kind in ("observation_space", "action_space", "reward_function"):
        setattr(_module("metamon.interface"), f"get_{kind}", lambda name: name)
    return evaluated
