"""What metamon and amago take, by name: `python scripts/build_signatures.py`, in an environment that has them.

Writes tests/goldens/signatures/metamon-VERSION.json: the parameters of every gin configurable, the flags of training
and evaluation, and the parameters of the functions that this package calls.
"""

import argparse
import contextlib
import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import Any

import gin
import metamon
import metamon.rl.train as train
from metamon.rl import pretrained

from gemma_metamon.upstream.evaluation import import_evaluation

with contextlib.suppress(ModuleNotFoundError):  # since 1.6.0
    import metamon.rl.custom_agent

SIGNATURES = Path(__file__).parent.parent / "tests" / "goldens" / "signatures"


def parameters(function: Any) -> list[str]:
    return sorted(name for name in inspect.signature(function).parameters if name != "self")


def configurables() -> dict[str, list[str]]:
    registered = vars(gin.config)["_REGISTRY"]._selector_map
    return {
        selector: parameters(found.wrapped)
        for selector, found in sorted(registered.items())
        if selector.split(".")[0] in ("amago", "metamon")
    }


def flags(add_cli: Any) -> dict[str, Any]:
    """Of a script: whether each must be given, how many values it takes, and which where they are few."""
    parser = argparse.ArgumentParser()
    add_cli(parser)
    return {
        action.option_strings[-1]: {
            "required": action.required,
            "nargs": 0 if action.nargs == 0 else action.nargs,
            **({"choices": list(action.choices)} if action.dest == "eval_type" else {}),
        }
        for action in parser._actions
        if action.dest != "help"
    }


if __name__ == "__main__":
    evaluation = import_evaluation()
    signature = {
        "metamon": metamon.__version__,
        "amago": importlib.metadata.version("amago"),
        "parameters": configurables(),
        "train_flags": flags(train.add_cli),
        "evaluate_module": evaluation.__name__,
        "evaluate_flags": flags(evaluation.add_cli),
        "functions": {
            "create_offline_rl_trainer": parameters(train.create_offline_rl_trainer),
            "LocalPretrainedModel": parameters(pretrained.LocalPretrainedModel.__init__),
            "pretrained_vs_baselines": parameters(evaluation.pretrained_vs_baselines),
        },
    }
    path = SIGNATURES / f"metamon-{metamon.__version__}.json"
    path.write_text(json.dumps(signature, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(signature['parameters'])} configurables, amago {signature['amago']}")
