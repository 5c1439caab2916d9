"""Keeps NaN and infinity out of the weights of a chat model, and weights that have them off the disk.

An update whose loss or gradient is NaN or infinite is left out, before the optimizer sees it, as `train` does
(training/finite.py); what its batches held is written down in OUT/not_finite.jsonl.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemma_metamon.language.data.chats import Example
from gemma_metamon.language.models.chat_model import ChatModel
from gemma_metamon.language.models.held_out import mean_loss
from gemma_metamon.runs.run_folder import NOT_FINITE
from gemma_metamon.training.left_out import count_left_out, record_left_out

_PROMPTS_AND_ANSWERS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
_KEPT = ("input_ids", "attention_mask", "position_ids", *_PROMPTS_AND_ANSWERS)


class UpdateGuard:
    """Decides for each update whether it may be made, and before each save whether the weights may be kept.

    Args:
        run_dir: OUT.
        chat: the model.
        examples: that are trained on; empty where battles are played.

    Attributes:
        record: the file that names what was left out.
        left_out: so many updates of the run were.
        in_a_row: so many of them since the last that was made.
        probe: a chat of which sound weights give a finite loss; None before there is one.
    """

    def __init__(self, run_dir: Path, chat: ChatModel, examples: Sequence[Example] = ()) -> None:
        self.record = run_dir / NOT_FINITE
        self.left_out = self.in_a_row = 0
        self.probe = examples[0] if examples else None
        self._chat, self._examples = chat, examples
        self._batches: list[dict[str, Tensor]] = []
        self._losses: list[Tensor] = []
        self._made: list[Tensor] = []
        self._left_out_before = 0

    def go_on(self, updates: int) -> None:
        """Takes up the counts of a run that goes on after so many updates."""
        self.left_out, self.in_a_row = count_left_out(self.record, updates)
        self._left_out_before = self.left_out

    def note(self, inputs: Mapping[str, Any]) -> None:
        """Called with what the model is given of each batch of an update."""
        self._batches.append({name: inputs[name].detach() for name in _KEPT if inputs.get(name) is not None})

    def add(self, loss: Tensor) -> Tensor:
        """Called with the loss of each batch of an update. Returns what is to be summed up: 0 for one not finite."""
        self._losses.append(loss.detach().float())
        return torch.where(loss.isfinite(), loss, torch.zeros_like(loss))

    def accept(self, update: int, grad_norm: Tensor) -> bool:
        """Whether an update may be made. If not, it is counted, and what its batches held is written down.

        Args:
            update: its number, from 1.
            grad_norm: of all gradients together.
        """
        losses, batches = self._losses, self._batches
        self._losses, self._batches = [], []
        if bool(torch.stack([*losses, grad_norm.detach().float()]).isfinite().all()):
            self.in_a_row = 0
            self._made.append(torch.stack(losses).sum())
            return True
        self.left_out += 1
        self.in_a_row += 1
        numbers = [float(loss) for loss in losses]
        record_left_out(self.record, update, numbers, float(grad_norm), lambda i: {"rows": self._rows(batches[i])})
        return False

    def since_last(self) -> dict[str, float]:
        """The mean loss of the updates that were made since the last call, where any were, and how many were not."""
        found = {"updates_left_out": float(self.left_out - self._left_out_before)}
        if self._made:
            found = {"loss/total": float(torch.stack(self._made).mean()), **found}
        self._made, self._left_out_before = [], self.left_out
        return found

    @torch.no_grad()
    def weights_are_sound(self) -> bool:
        """Whether all weights are finite and give a finite loss. Changes nothing."""
        model = self._chat.model
        if not all(bool(t.isfinite().all()) for t in model.state_dict().values() if t.is_floating_point()):
            return False
        if self.probe is None:
            return True
        was_training = model.training
        model.eval()
        loss = mean_loss(self._chat, [self.probe])
        model.train(was_training)
        return bool(torch.tensor(loss).isfinite())

    def _rows(self, batch: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """What a batch held: rows of the data, by their numbers, with the answers that the model drew to them."""
        if "prompt_ids" not in batch:
            whole = self._numbers(lambda example: example.prompt + example.answer)
            return [self._named(whole, ids) for ids in _texts(batch)]
        asked = self._numbers(lambda example: example.prompt)
        rows = []
        for prompt, prompt_mask, answer, mask in zip(*(batch[name] for name in _PROMPTS_AND_ANSWERS), strict=True):
            drawn = self._chat.tokenizer.decode(answer[mask.bool()].tolist(), skip_special_tokens=True)
            rows.append({**self._named(asked, prompt[prompt_mask.bool()].tolist()), "answer": drawn})
        return rows

    def _numbers(self, of: Any) -> dict[tuple[int, ...], list[int]]:
        """The numbers of the rows by their subwords, which are unique but for rows that say the same."""
        numbers = defaultdict(list)
        for example in self._examples:
            numbers[tuple(of(example))].append(example.row)
        return numbers

    def _named(self, numbers: Mapping[tuple[int, ...], list[int]], ids: Sequence[int]) -> dict[str, Any]:
        """A row of the data by its number, another one by its words."""
        if tuple(ids) in numbers:
            return {"row": numbers[tuple(ids)][0]}
        return {"text": self._chat.tokenizer.decode(ids)}


def _texts(batch: Mapping[str, Tensor]) -> list[list[int]]:
    """The chats of a batch in subwords, without padding; of a packed row all that are in it."""
    every = batch["input_ids"]
    if "position_ids" not in batch:
        real = batch.get("attention_mask", torch.ones_like(every)).bool()
        return [ids[mask].tolist() for ids, mask in zip(every, real, strict=True)]
    found: list[list[int]] = []
    for ids, places in zip(every.tolist(), batch["position_ids"].tolist(), strict=True):
        starts = [i for i, place in enumerate(places) if place == 0]
        found += [ids[start:stop] for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)]
    return found
