"""Whether what an export writes is the model that it was made of: read again as its user would, and compared."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from gemma_metamon.errors import ConfigError, GemmaMetamonError
from gemma_metamon.extras import require_extra
from gemma_metamon.release.contents import Contents
from gemma_metamon.release.gates import Form, GateRow

CLOSE: Final = 1e-3
"""So far may hidden states or logits of an export lie from the model's own, float32 against float32."""


def check_export(form: Form, contents: Contents) -> GateRow:
    """The gate of one form. A form that this model has not is a gate that it does not pass."""
    name = f"export, {form}"
    wanted = "the same tensors" if form in ("amago", "gguf") else f"within {CLOSE:g} of the model"
    checks = _checks(contents)
    if form not in checks:
        forms = ", ".join(checks) or "none that is compared here"
        return GateRow(name=name, passed=False, found=f"this model is exported as {forms}", wanted=wanted)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            found = checks[form](contents, Path(scratch, "out"))
    except GemmaMetamonError as error:
        return GateRow(name=name, passed=False, found=str(error), wanted=wanted)
    if found is None:
        return GateRow(name=name, passed=True, found="equal", wanted=wanted)
    return GateRow(name=name, passed=found <= CLOSE, found=f"{found:.2g}", wanted=wanted)


def _checks(contents: Contents) -> dict[str, Callable[[Contents, Path], float | None]]:
    if contents.facts.kind == "agent":
        return {"amago": _amago, "peft": _peft, "merged": _merged_agent}
    if contents.facts.kind == "vision":
        return {"merged": _merged_seeing}
    return {"merged": _merged_text, "gguf": _gguf, "mlx": _mlx}


def _amago(contents: Contents, out: Path) -> None:
    from gemma_metamon.upstream.interchange import export_policy, from_amago, read_policy

    checkpoint = _checkpoint(contents)
    read, own = from_amago(read_policy(export_policy(checkpoint, out))), checkpoint.read_weights()
    lost = [name for name, tensor in own.items() if name not in read or not torch.equal(read[name], tensor)]
    if lost:
        raise ConfigError(f"{lost[0]} and {len(lost) - 1} more are not in the export as they were saved")


def _merged_agent(contents: Contents, out: Path) -> float:
    from transformers import AutoModel

    from gemma_metamon.runs.gemma_export import export_merged

    encoder = _encoder(contents)
    export_merged(encoder, out)
    return _states_apart(encoder, AutoModel.from_pretrained(out, dtype=torch.float32))


def _peft(contents: Contents, out: Path) -> float:
    from peft import PeftModel

    from gemma_metamon.nets.reader.backbone import build_backbone
    from gemma_metamon.runs.gemma_export import export_peft

    encoder = _encoder(contents)
    export_peft(encoder, out)
    plain = replace(encoder.options, dtype="float32", use_lora=False, use_4bit=False, init_adapter=None)
    base: Any = build_backbone(plain, encoder.subwords.used_ids.tolist(), trim=False)
    return _states_apart(encoder, PeftModel.from_pretrained(base, out))


def _states_apart(encoder: Any, exported: Any) -> float:
    """The farthest that states of 64 subwords lie apart, numbered as Gemma numbers them in the export."""
    used = torch.from_numpy(encoder.subwords.used_ids).long()
    drawn = torch.randint(len(used), (4, 16), generator=torch.Generator().manual_seed(1))
    own_ids = drawn if encoder.subwords.compact else used[drawn]
    with torch.no_grad():
        own = encoder.backbone.eval()(input_ids=own_ids).last_hidden_state.float()
        theirs = exported.eval()(input_ids=used[drawn]).last_hidden_state.float()
    return float((own - theirs).abs().max())


def _merged_text(contents: Contents, out: Path) -> float:
    from transformers import AutoModelForCausalLM

    from gemma_metamon.language.models.chat_model import export_whole

    chat = _chat(contents)
    export_whole(chat, out)
    exported: Any = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    exported.eval()
    drawn = torch.randint(chat.gemma.config.vocab_size, (4, 16), generator=torch.Generator().manual_seed(1))
    kept = None if chat.kept_ids is None else torch.tensor(chat.kept_ids)
    with torch.no_grad():
        own = chat.model.eval()(input_ids=drawn).logits.float()
        theirs = exported(input_ids=drawn if kept is None else kept[drawn]).logits.float()
    return float((own - (theirs if kept is None else theirs[..., kept])).abs().max())


def _merged_seeing(contents: Contents, out: Path) -> float:
    from gemma_metamon.language.training.fine_tuning import find_model
    from gemma_metamon.vision.models import merge

    return merge(find_model(contents.run_dir, contents.epoch), out)  # it reads the folder back


def _gguf(contents: Contents, out: Path) -> None:
    from gemma_metamon.language.models.conversion import export_gguf

    require_extra("gguf", "the gate of export gguf")
    export_gguf(_chat(contents), out)  # reads every tensor back


def _mlx(contents: Contents, out: Path) -> None:
    from gemma_metamon.language.models.conversion import export_mlx

    require_extra("mlx", "the gate of export mlx")
    export_mlx(_chat(contents), out)  # compares its logits


def _checkpoint(contents: Contents) -> Any:
    from gemma_metamon.runs.checkpoints import Checkpoint

    return Checkpoint.find(contents.run_dir, contents.epoch)


def _encoder(contents: Contents) -> Any:
    from gemma_metamon.runs.loading import load_agent

    agent: Any
    agent, _ = load_agent(_checkpoint(contents), "cpu")
    return agent.tstep_encoder


def _chat(contents: Contents) -> Any:
    from gemma_metamon.language.models.chat_model import load
    from gemma_metamon.language.training.fine_tuning import find_model

    return load(find_model(contents.run_dir, contents.epoch))
