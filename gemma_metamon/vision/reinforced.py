"""What `grpo` needs of decisions that are shown in pictures: they, and the models that see them."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gemma_metamon.errors import ConfigError
from gemma_metamon.language.data.chats import Example
from gemma_metamon.language.models.chat_model import SEEING_DESCRIPTION
from gemma_metamon.language.training.fine_tuning import find_model
from gemma_metamon.runs.checkpoints import split_epoch
from gemma_metamon.vision.chats import SeenChat, encode
from gemma_metamon.vision.forms import Form
from gemma_metamon.vision.models import SeeingModel, SeeingPlan, build, load

_SIGHT = ("vision_tower", "multi_modal_projector")


class Seen:
    """Decisions to learn from by rewards, as `language.training.grpo.Decisions` has them; the language layers learn.

    Args:
        seen: whose prompts are answered.
        held_out: to measure by; may be empty.
        form: how they are shown.
    """

    def __init__(self, seen: Sequence[SeenChat], held_out: Sequence[SeenChat], form: Form) -> None:
        self.form = form
        self._seen, self._held_out = seen, held_out

    def begin(self, model: str, device: torch.device) -> SeeingModel:
        """The model that it begins with, to be trained.

        Args:
            model: a run of `vlm train` or `grpo`, RUN or RUN@EPOCH; else a hub name, or the folder of a downloaded
                Gemma 3, over which adapters are trained.
            device: where.

        Raises:
            ConfigError: a model that is shown its decisions otherwise.
            MissingFileError, ConfigError, DataError: as `models.build` and `models.load`.
        """
        folder, epoch = split_epoch(model)
        if (folder / SEEING_DESCRIPTION).is_file() or (folder.is_dir() and not (folder / "config.json").is_file()):
            chat = load(find_model(folder, epoch), device, trainable=True)
            if chat.form != self.form:
                raise ConfigError(f"{model} is shown its decisions in another form than --data; export with the same")
        else:
            chat = build(SeeingPlan(model=model), self.form, [], device)
            chat.model.to(device)
        return _seeing_as_before(chat)

    def load(self, folder: Path, device: torch.device) -> SeeingModel:
        """A model that was kept, to be trained further."""
        return _seeing_as_before(load(folder, device, trainable=True))

    def encode(self, chat: SeeingModel, context: int, *, held_out: bool) -> tuple[list[Example], int]:
        """As `chats.encode`."""
        return encode(chat, self._held_out if held_out else self._seen, context)


def _seeing_as_before(chat: SeeingModel) -> SeeingModel:
    """Rewards teach it to choose, and not to see."""
    for name, parameter in chat.model.named_parameters():
        if any(part in name for part in _SIGHT):
            parameter.requires_grad_(False)
    return chat
