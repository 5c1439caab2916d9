"""Nothing that comes from a file is unpickled: a pickle runs whatever code it names."""

import ast
from pathlib import Path

import pytest
from support.modules import FILES, PACKAGE

IN_MEMORY = PACKAGE / "showdown" / "live" / "poke_env_hooks.py"
"""Which copies a battle of poke-env's within the process; what it reads back it has just written itself."""
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def dangers(text: str) -> list[str]:
    """What of a module could unpickle a file, or run code that a model's repository holds."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] if node.module.split(".")[0] in PICKLES else []
        elif isinstance(node, ast.Call):
            found += _dangerous_call(node)
    return found


def _dangerous_call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    given = {word.arg: word.value for word in node.keywords}
    if name == "torch.load":
        value = given.get("weights_only")
        return [] if isinstance(value, ast.Constant) and value.value is True else [name]
    if name.endswith(("np.load", "numpy.load")):
        value = given.get("allow_pickle")
        return [] if value is None or (isinstance(value, ast.Constant) and value.value is False) else [name]
    value = given.get("trust_remote_code")
    if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
        return ["trust_remote_code"]
    return (
        [name] if name in ("eval", "exec", "torch.hub.load", "pd.read_pickle", "yaml.load", "yaml.unsafe_load") else []
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_unpickles_a_file(path: Path) -> None:
    found = dangers(path.read_text(encoding="utf-8"))
    assert found == (["pickle"] if path == IN_MEMORY else [])


def test_what_is_pickled_in_memory_reaches_no_file() -> None:
    text = IN_MEMORY.read_text(encoding="utf-8")
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
    assert {name for name in calls if name.startswith("pickle.")} == {"pickle.dumps", "pickle.loads"}
    assert not {name for name in calls if name.split(".")[-1] in ("open", "read_bytes", "write_bytes")}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=chosen)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "eval(text)",
        "torch.hub.load(a, b)",
    ],
)
def test_a_danger_is_seen(line: str) -> None:
    assert dangers(line)
    assert not dangers("torch.load(path, weights_only=True)\nnp.load(path)\nmodel.eval()\nx(trust_remote_code=False)")
