"""Wrong gin texts and overrides, made from the packaged configs: what scripts/fuzz_gin.py tries."""

import inspect
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from gemma_metamon.configs.files import find_config, list_configs
from gemma_metamon.configs.names import registered
from gemma_metamon.runs import resolve
from gemma_metamon.runs.embedded import register

TINY = "gemma_tiny_multitaskagent.gin"
LARGE_SHARE = 0.03
SMALL = """
GemmaTstepEncoder.backbone_config = {'hidden_size': 16, 'intermediate_size': 16, 'num_hidden_layers': 1,
    'num_attention_heads': 1, 'num_key_value_heads': 1, 'head_dim': 16, 'layer_types': ['full_attention']}
GemmaTstepEncoder.text_emb_dim = 16
GemmaTstepEncoder.summary_tokens = 2
GemmaTstepEncoder.numerical_emb_dim = 16
TformerTrajEncoder.d_model = 16
TformerTrajEncoder.d_ff = 16
TformerTrajEncoder.n_layers = 1
TformerTrajEncoder.n_heads = 2
MetamonMaskedActor.d_hidden = 16
NCriticsTwoHot.d_hidden = 16
NCriticsTwoHot.output_bins = 8
MetamonAMAGOExperiment.max_seq_len = 12
MetamonAMAGOExperiment.lr_warmup_steps = 0
"""
AGENT = """
MetamonAMAGOExperiment.agent_type = @agent.Agent
Agent.actor_type = @MetamonMaskedActor
Agent.pass_obs_keys_to_actor = ["illegal_actions"]
Agent.critic_type = @actor_critic.NCritics
NCritics.d_hidden = 16
"""
NUMBERS = ["0", "-1", "1", "2", "3", "7", "8", "16", "64", "1000", "0.0", "-0.0", "0.5", "1.0", "1.5", "5.0", "-3.5",
           "1e-30", "1e-45", "1e30", "-1e30", "1e999", "-1e999", "1000000", "1000000000", "2147483648",
           "9223372036854775807", "9223372036854775808", "10000000000000000000", "0x" + "f" * 5000, "1" * 5000,
           "1_000", "1j", "0b101", "00", "- 5", "--5", "+5", "nan", "inf", "float('nan')", "1/0", "True", "False",
           "None", "true"]  # fmt: skip
TEXTS = ["''", "'abc'", '"gelu"', "'layer'", "'none'", "'rope'", "'entity'", "'raw'", "'bfloat16'", "'3.1'", "'exact'",
         "'hlgauss'", "'no'", "'bf16'", "'learnable'", "'unitball'", "'\\0'", "'\\ud800'", "'\\n'", "'é'", "'🙂'",
         "'a' 'b'", "'../..'", "b'x'", "f'x'", "r'\\x'", "'unclosed", "'" + "x" * 5000 + "'", "'" + "x" * 200_000 + "'",
         "'illegal_actions'", "'google/gemma-3-270m'"]  # fmt: skip
CONTAINERS = ["[]", "()", "{}", "[1]", "(1,)", "[1, 'x']", "[0.5, 0.9]", "['illegal_actions']", "['text_tokens']",
              "['nope']", "{'a': {'b': {}}}", "{1: 2}", "{[1]: 2}", "[[[]]]", "[" * 8 + "]" * 8, "[" * 60 + "]" * 60,
              "[" * 5000 + "]" * 5000, "[" * 300, "{" * 99, "(" * 5000 + "1" + ")" * 5000, "[1,,2]", "[1", "]", "}",
              "[" + "1," * 20_000 + "]", "{'hidden_size': 16}", "[True] * 3", "[None]", "[@Actor]",
              "{'a': @Actor}", "[%nope]"]  # fmt: skip
REFERENCES = ["@Actor", "@Actor()", "@best_attention", "@best_attention()", "@nope", "@nope()", "@NCritics",
              "@NCriticsTwoHot", "@agent.Agent", "@agent.MultiTaskAgent", "@MultiTaskAgent()", "@GemmaTstepEncoder",
              "@GemmaTstepEncoder()", "@WordTstepEncoder", "@TformerTrajEncoder", "@PopArtLayer", "@Multigammas",
              "@Multigammas()", "@binary_filter", "@exp_filter", "@leaky_relu_filter", "@exp_filter()",
              "@MetamonMaskedResidualActor", "@ResidualActor", "@MetamonMaskedActor", "@x/Actor",
              "@x/y/NCritics", "@x/WordTstepEncoder", "@MetamonAMAGOExperiment", "@MetamonAMAGOExperiment()", "@macro",
              "@gin.macro", "@x/gin.macro()", "@gin.constant()", "@gin.singleton()", "@x/singleton()", "@", "@()",
              "%nope", "%", "%a", "%b", "%x/a", "%gin.REQUIRED", "%a.b", "@Multi", "@amago.agent.Agent"]  # fmt: skip
STATEMENTS = ["import os", "import evil_module", "from evil_module import x", "from evil_package import x as y",
              "import gemma_metamon.upstream.plugin", "import gemma_metamon.nope", "import gemma_metamon.__main__",
              "import \\\n evil_module", "import amago.agent", "from metamon.rl import train", "import",
              "from __gin__ import dynamic_registration", "from __gin__ import nope",
              "from __gin__ import dynamic_registration\nimport evil_module\n@evil_module.main()",
              "include 'nope.gin'", f"include '{TINY}'", "include 'il.gin'", "include 3", "include", "include '\\0'",
              "include 'evil_package/x.gin'", "include '/dev/zero'", "include '.'", "Actor:\n  d_hidden = 8\n",
              "Actor:\n d_hidden = 'x'\n  n_layers = 1", "x/Actor.d_hidden = 8", "x/MetamonMaskedActor.d_hidden = 0",
              "a = %a", "a = %b\nb = %a", "a = [%b, %b]\nb = [%c, %c]\nc = [%d, %d]\nd = [%e, %e]\ne = 1", "a = 3",
              "a = @Actor", "gin.macro.value = 3", "a/gin.macro.value = 4", "gin.singleton.constructor = @Actor",
              "GemmaTstepEncoder = 3", "Actor.self = 3", "Actor.d_hidden.x = 3", "WordTstepEncoder.words = 3",
              "WordTstepEncoder.nope = 3", "WordTstepEncoder.encoder_type = @WordTstepEncoder", "lora_r = 4", "= 4",
              "Actor.d_hidden == 3", "Actor.d_hidden = 3 4", "Actor.d_hidden = 3; Actor.n_layers = 1", "\0", "\ufeff",
              "\\", "\\\n", "#", "  Actor.d_hidden = 3", "\tx = 1", "é.d = 3", "A" * 5000 + ".x = 1", "x" * 200_000,
              "'''", '"""', "'''\n" * 3]  # fmt: skip
CHARACTERS = [*"=@%./'\"[](){},:;#\\ \n\t-+*0129eExj_aZ", "\0", "é", "🙂", "\u2028", "\ud800", "\r", "\x0c"]
BACKBONE = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "sliding_window", "max_position_embeddings",
            "layer_types", "sliding_window_pattern", "hidden_activation", "initializer_range", "rms_norm_eps",
            "rope_theta", "attention_bias", "attention_dropout", "use_bidirectional_attention", "nope",
            "rope_scaling"]  # fmt: skip


class Input(NamedTuple):
    """What `configs` is given: texts of files by name, the first of which is loaded; or a saved text; and overrides."""

    files: dict[str, str]
    overrides: list[str]
    training: str | None = None
    saved: bool = False


def make_input(seed: int, number: int) -> Input:
    """Input `number` of a seed, the same on every machine."""
    rng = random.Random(f"{seed}:{number}")
    text = base_text(rng)
    makers = [
        (30, one_value), (14, several_values), (14, backbone_field), (12, statement_override), (8, noisy_override),
        (10, noisy_file), (6, file_statement), (4, includes), (6, saved), (6, macros), (3, nonsense),
    ]  # fmt: skip
    maker: Callable[[random.Random, str], Input] = rng.choices([m for _, m in makers], [w for w, _ in makers])[0]
    return maker(rng, text)


def base_text(rng: random.Random) -> str:
    if rng.random() < LARGE_SHARE:
        return f"include '{rng.choice(list_configs('models'))}'\n"
    text = f"import gemma_metamon.upstream.plugin\ninclude '{TINY}'\n{SMALL}"
    if rng.random() < 0.3:
        text += AGENT
    if rng.random() < 0.3:
        text += "GemmaTstepEncoder.granularity = 'entity'\n"
    return text


def hostile(rng: random.Random) -> str:
    pools = [(10, NUMBERS), (4, TEXTS), (4, CONTAINERS), (4, REFERENCES)]
    return rng.choice(rng.choices([pool for _, pool in pools], [weight for weight, _ in pools])[0])


def parameters() -> dict[str, Any]:
    """Every parameter that gin knows, and its default."""
    register()
    return {
        f"{name}.{parameter.name}": parameter.default
        for name, (_, target) in sorted(registered.items())
        for parameter in inspect.signature(target).parameters.values()
    }


DEFAULTS = parameters()
PARAMETERS = list(DEFAULTS)
# in use in the small agents, with a default: what a user changes
USUAL = [
    name
    for name, default in DEFAULTS.items()
    if name.partition(".")[0] in ("MultiTaskAgent", "MetamonAMAGOExperiment", "TformerTrajEncoder", "GemmaTstepEncoder",
                                  "NCriticsTwoHot", "MetamonMaskedActor", "PopArtLayer", "Multigammas", "exp_filter")
    and not isinstance(default, type)
]  # fmt: skip


def plausible(rng: random.Random, parameter: str) -> str:
    """A value of the right type, in or out of its range."""
    default = DEFAULTS[parameter]
    if isinstance(default, bool):
        return rng.choice(["True", "False"])
    if isinstance(default, int):
        return rng.choice(["0", "1", "2", "3", "4", "8", "16", "48", "64", "200", "1000", "70000", "-1"])
    if isinstance(default, float):
        return rng.choice(["0", "0.0", "1e-8", "0.01", "0.3", "0.5", "0.999", "1.0", "1", "2.0", "10", "1000.0", "1e6",
                           "-0.5", "-1000.0", "1e9"])  # fmt: skip
    if isinstance(default, str):
        return rng.choice(TEXTS[:16])
    return rng.choice(
        ["None", "1", "16", "0.5", "1100", "-1100.0", "1e6", "[0.5]", "['illegal_actions']", "@exp_filter"]
    )


def binding(rng: random.Random) -> str:
    scope = rng.choice(["x/", "a/b/", "é/"]) if rng.random() < 0.04 else ""
    if rng.random() < 0.75:
        parameter = rng.choice(USUAL)
        return f"{scope}{parameter} = {plausible(rng, parameter)}"
    return f"{scope}{rng.choice(PARAMETERS)} = {hostile(rng)}"


def training(rng: random.Random) -> str | None:
    return rng.choice([None, None, *list_configs("training")])


def one_value(rng: random.Random, text: str) -> Input:
    return Input({"mine.gin": text}, [binding(rng)], training(rng))


def several_values(rng: random.Random, text: str) -> Input:
    return Input({"mine.gin": text}, [binding(rng) for _ in range(rng.randint(2, 3))], training(rng))


def backbone_field(rng: random.Random, text: str) -> Input:
    fields = {"hidden_size": "16", "num_hidden_layers": "1", "num_attention_heads": "1", "head_dim": "16",
              "num_key_value_heads": "1", "layer_types": "['full_attention']"}  # fmt: skip
    for _ in range(rng.randint(1, 2)):
        usual = rng.choice(["1", "2", "3", "4", "8", "16", "32", "0.5", "0.02", "True", "['sliding_attention']"])
        fields[rng.choice(BACKBONE)] = usual if rng.random() < 0.7 else hostile(rng)
    written = ", ".join(f"'{name}': {value}" for name, value in fields.items())
    return Input({"mine.gin": text}, [f"GemmaTstepEncoder.backbone_config = {{{written}}}"])


def statement_override(rng: random.Random, text: str) -> Input:
    return Input({"mine.gin": text}, [rng.choice(STATEMENTS) for _ in range(rng.randint(1, 2))])


def noisy_override(rng: random.Random, text: str) -> Input:
    right = f"{rng.choice(PARAMETERS)} = {rng.choice(['3', '0.5', 'True', '[1, 2]', '@Actor'])}"
    return Input({"mine.gin": text}, [with_noise(rng, right, rng.randint(1, 4))])


def noisy_file(rng: random.Random, text: str) -> Input:
    packaged = find_config(TINY, "models").read_text(encoding="utf-8") + SMALL
    return Input({"mine.gin": with_noise(rng, packaged, rng.randint(1, 6))}, [], training(rng))


def file_statement(rng: random.Random, text: str) -> Input:
    lines = text.split("\n")
    lines.insert(rng.randint(0, len(lines)), rng.choice([*STATEMENTS, binding(rng)]))
    return Input({"mine.gin": "\n".join(lines)}, [], training(rng))


def includes(rng: random.Random, text: str) -> Input:
    names = ["mine.gin", "b.gin", "c.gin"]
    files = {name: text if name == "c.gin" else "" for name in names}
    for name in names:
        for _ in range(rng.randint(0, 3)):
            files[name] += f"include '{rng.choice([*names, 'il.gin', 'd.gin'])}'\n"
    return Input(files, [])


def saved(rng: random.Random, text: str) -> Input:
    resolved = resolve.load(TINY, "binary_rl.gin", SMALL.replace(",\n", ",").strip().split("\n")).text
    choice = rng.random()
    if choice < 0.4:
        resolved = with_noise(rng, resolved, rng.randint(1, 5))
    elif choice < 0.8:
        resolved = f"{rng.choice(STATEMENTS)}\n{resolved}\n{rng.choice([*STATEMENTS, binding(rng)])}"
    return Input({"saved.gin": resolved}, [binding(rng)] if rng.random() < 0.3 else [], saved=True)


def macros(rng: random.Random, text: str) -> Input:
    names = "abcde"
    defined = [f"{name} = {rng.choice([f'%{rng.choice(names)}', f'[%{rng.choice(names)}] ', hostile(rng), '16'])}"
               for name in names]  # fmt: skip
    used = f"{rng.choice(PARAMETERS)} = %{rng.choice(names)}"
    return Input({"mine.gin": "\n".join([text, *defined])}, [used])


def nonsense(rng: random.Random, text: str) -> Input:
    return Input({"mine.gin": "".join(rng.choices(CHARACTERS, k=rng.randint(0, 200)))}, [])


def with_noise(rng: random.Random, text: str, times: int) -> str:
    """Characters or lines taken away, put in, doubled or exchanged."""
    for _ in range(times):
        at = rng.randint(0, max(len(text) - 1, 0))
        change = rng.randrange(6)
        if change == 0:
            text = text[:at] + text[at + 1 :]
        elif change == 1:
            text = text[:at] + rng.choice(CHARACTERS) + text[at:]
        elif change == 2:
            text = text[:at] + rng.choice(CHARACTERS) + text[at + 1 :]
        elif change == 3:
            text = text[:at] + text[at : at + rng.randint(1, 30)] * 2 + text[at:]
        elif change == 4:
            text = text[:at]
        else:
            lines = text.split("\n")
            lines.insert(rng.randint(0, len(lines)), lines.pop(rng.randrange(len(lines))))
            text = "\n".join(lines)
    return text
