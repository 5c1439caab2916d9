"""Gemma 3 that sees, as it is trained and as it plays: built, saved, loaded, and merged into a plain folder.

A saved model is a folder:

    form.json                                       how decisions are shown to it, see `Form`
    seeing_model.json                               see `SeeingPlan`; none of a plain folder
    processor_config.json, tokenizer.json, ...      of its processor
    model.safetensors, config.json, ...             of a model whose own weights were trained, or of a plain folder
    adapter_model.safetensors, ...                  instead, of one that was trained by adapters over its base

The vocabulary stays whole: a plain folder is then the base with the adapters added, and nothing to be restored.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gemma_metamon.atomic_files import as_os_errors, written_whole
from gemma_metamon.errors import ConfigError, DataError
from gemma_metamon.language.data.chats import Example
from gemma_metamon.language.models.chat_model import (
    DESCRIPTION,
    SEEING_DESCRIPTION,
    ChatModel,
    ModelPlan,
    base_dtype,
    dtype_on,
    with_adapters,
)
from gemma_metamon.language.telling.json_answers import parse_json_answer, write_json_answer
from gemma_metamon.nets.reader.backbone import LORA_TARGETS
from gemma_metamon.nets.reader.four_bit import quantise_linears
from gemma_metamon.nets.reader.weights import (
    load_adapted,
    load_config_that_sees,
    load_processor,
    load_that_sees,
    local_folder,
)
from gemma_metamon.strict_json import read_dataclass, read_json_object, shown_path, why_no_picture
from gemma_metamon.vision.forms import FORM, Form, read_form, write_form
from gemma_metamon.vision.processors import picture_size
from gemma_metamon.vision.tiny import build_model, build_processor, picture_tokens

CLOSE: Final = 1e-4
"""So far may logits of a merged model lie from those of the adapters over their base."""
_TOWER_TARGETS: Final = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")


@dataclass(frozen=True, kw_only=True)
class SeeingPlan(ModelPlan):
    """Which Gemma is trained, and how.

    Attributes:
        vision_layers: adapters on the vision tower, too, and not on the language layers alone.

    Raises:
        ConfigError, MissingDependencyError: as `ModelPlan`; ConfigError also for vision_layers where no adapters are
            trained.
    """

    vision_layers: bool = False

    def __post_init__(self) -> None:
        ModelPlan.__post_init__(self)
        if self.vision_layers and not self.uses_adapters:
            raise ConfigError(
                "--vision_layers puts adapters on a pretrained tower, and all layers of the tiny model, or with --full "
                "of any, learn anyway; leave it out"
            )


@dataclass
class SeeingModel(ChatModel):
    """A model with its processor.

    Attributes:
        processor: transformers'; its tokenizer is `tokenizer`.
        form: how decisions are shown to it.
    """

    processor: Any = None
    form: Form = field(default_factory=Form)

    def write_answer(self, choice: str) -> str:
        """The JSON answer that names a choice."""
        return write_json_answer(choice)

    def parse_answer(self, text: str, choices: Mapping[int, str]) -> int:
        """The action that a JSON answer names."""
        return parse_json_answer(text, choices)

    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures (n, 3, height, width) as the vision tower takes them."""
        pixels: Tensor = self.processor.image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        return pixels

    def pixels_of(self, examples: Sequence[Example]) -> list[Tensor]:
        """What is seen at each example. Raises DataError for a picture that cannot be read any more."""
        return [self.look([open_picture(path) for path in example.pictures]) for example in examples]

    def inputs_of(self, ids: Tensor, pixels: Sequence[Tensor] | None) -> dict[str, Tensor]:
        """With what is seen, and which places are of it: without these, places of a picture saw only those before."""
        if pixels is None:
            raise ValueError("a model that sees is to be shown something")
        types = (ids == self.processor.tokenizer.image_token_id).long()
        return {"input_ids": ids, "pixel_values": torch.cat(list(pixels)).to(ids.device), "token_type_ids": types}

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The subwords of a chat up to where the model answers, with the places of its pictures."""
        text: str = self.processor.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        text = text.replace(self.processor.tokenizer.boi_token, self.processor.full_image_sequence)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _save_description(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)
        (folder / SEEING_DESCRIPTION).write_text(json.dumps(asdict(self.plan)) + "\n", encoding="utf-8")
        write_form(folder, self.form)


def open_picture(path: Path) -> Image.Image:
    """A picture, RGB. Raises DataError where there is none, or a damaged one."""
    with _opened(path) as image:
        picture: Image.Image = image.convert("RGB")
        return picture


def size_of_picture(path: Path) -> tuple[int, int]:
    """Its width and height in pixels, from its beginning alone. Raises as `open_picture`."""
    with _opened(path) as image:
        size: tuple[int, int] = image.size
        return size


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{shown_path(path)} cannot be read as a picture ({why_no_picture(error)})") from error


def build(plan: SeeingPlan, form: Form, texts: Sequence[str], device: torch.device | str = "cpu") -> SeeingModel:
    """A model to be trained; on the CPU for now.

    Args:
        plan: which.
        form: how decisions are shown to it.
        texts: whose words a tiny model's tokenizer learns.
        device: where it will compute; for CUDA a base under adapters is held in bfloat16.

    Raises:
        MissingFileError: weights or a processor that cannot be reached.
        ConfigError: what is no Gemma 3 that sees, a processor that does not fit it, pictures of another size.
    """
    if plan.is_random:
        processor = build_processor(texts, form.size)
        return SeeingModel(build_model(processor, plan.seed), processor.tokenizer, plan, None, processor, form)
    processor = _fitting_processor(plan, form)
    gemma = _base(plan, processor, base_dtype(plan, device))
    learner = _with_adapters(gemma, plan) if plan.uses_adapters else gemma
    return SeeingModel(learner, processor.tokenizer, plan, None, processor, form)


def require_buildable(plan: SeeingPlan, form: Form) -> None:
    """Raises as `build` does, as far as it can be told without weights and texts: before a data set is read."""
    if plan.is_random:
        picture_tokens(form.size)
    else:
        _fitting_processor(plan, form)


def _fitting_processor(plan: SeeingPlan, form: Form) -> Any:
    """Of a pretrained model, whose configuration is read and no weights."""
    processor = _processor_of(plan.model)
    require_size(processor, form, plan.model)
    require_matching(processor, load_config_that_sees(plan.model), plan.model)
    return processor


def load(folder: Path, device: torch.device | str = "cpu", *, trainable: bool = False) -> SeeingModel:
    """A saved model, or a plain folder of transformers' with a Gemma 3 that sees.

    Args:
        folder: as `SeeingModel.save` writes it, or plain.
        device: where it is to compute.
        trainable: whether its weights or adapters are to be trained further.

    Raises:
        MissingFileError: no such folder, or one without a model.
        DataError: a damaged description.
        ConfigError: what is no Gemma 3 that sees, a processor that does not fit it, or a form of another size.
    """
    plan = _plan_of(folder)
    is_plain = not (folder / SEEING_DESCRIPTION).is_file()
    dtype = dtype_on(device) if is_plain else base_dtype(plan, device)
    return _load(folder, plan, dtype, device, trainable=trainable)


def _load(
    folder: Path, plan: SeeingPlan, dtype: torch.dtype, device: torch.device | str = "cpu", *, trainable: bool = False
) -> SeeingModel:
    form = read_form(folder) if (folder / FORM).is_file() else Form(size=picture_size(folder))
    processor = _processor_of(str(folder))
    size = processor.image_processor.size.get("height")
    if size != form.size:
        raise ConfigError(
            f"{FORM} in {shown_path(folder)} says that pictures have {form.size} pixels on a side, and the processor "
            f"beside it looks at {size}; put back the files that vlm train or merge wrote"
        )
    if plan.uses_adapters:
        model = load_adapted(_base(plan, processor, dtype), folder, trainable=trainable)
    else:
        require_matching(processor, load_config_that_sees(str(folder)), str(folder))
        model = load_that_sees(str(folder), dtype)
    model.to(device)
    model.train(trainable)
    if not trainable:
        model.requires_grad_(False)
    return SeeingModel(model, processor.tokenizer, plan, None, processor, form)


def merge(folder: Path, out: Path) -> float:
    """Writes a plain float32 folder with the adapters added to their base: AutoModelForImageTextToText's.

    A base in 4 bits is not what is written: the adapters are added to the whole one.

    Returns:
        How far its logits, read back, lie at most from those of the model that was trained.

    Raises:
        MissingFileError: the base cannot be reached any more.
        DataError: they lie further than CLOSE; then nothing is written.
    """
    chat = _load(folder, replace(_plan_of(folder), use_4bit=False), torch.float32)
    before = _logits(chat)
    with written_whole(out) as staged, as_os_errors(out):
        staged.mkdir(parents=True)
        (chat.model.merge_and_unload() if chat.plan.uses_adapters else chat.model).save_pretrained(staged)
        chat.processor.save_pretrained(staged)
        write_form(staged, chat.form)
        chat.model = None  # memory for one of them is enough
        difference = float((_logits(load(staged)) - before).abs().max())
        if not difference <= CLOSE:
            raise DataError(
                f"the merged model of {shown_path(folder)} differs by {difference:.2g} in its logits, more than "
                f"{CLOSE:g}; nothing is written"
            )
    return difference


@torch.inference_mode()
def _logits(chat: SeeingModel) -> Tensor:
    """Of a picture of all grey levels and a few words."""
    size = chat.form.size
    picture = Image.linear_gradient("L").resize((size, size)).convert("RGB")
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What wins?"}]}
    ids = torch.tensor([chat.prompt_ids([message])], device=chat.device)
    logits: Tensor = chat.gemma(**chat.inputs_of(ids, [chat.look([picture])])).logits
    return logits.float()


def require_size(processor: Any, form: Form, name: str) -> None:
    """Raises ConfigError for pictures that a processor would scale."""
    size = processor.image_processor.size
    if (size.get("height"), size.get("width")) != (form.size, form.size):
        raise ConfigError(
            f"the data's pictures have {form.size} pixels on a side, and {name!r} looks at {size.get('height')}; "
            f"export them with --size {size.get('height')}"
        )


def require_matching(processor: Any, config: Any, name: str) -> None:
    """Raises ConfigError for a processor that is not that of a model of this configuration."""
    tokenizer = processor.tokenizer
    for what, found, wanted in (
        ("gives pictures of size", processor.image_processor.size.get("height"), config.vision_config.image_size),
        ("gives a picture so many tokens:", processor.image_seq_length, config.mm_tokens_per_image),
        ("marks them by the token", tokenizer.image_token_id, config.image_token_id),
    ):
        if found != wanted:
            raise ConfigError(
                f"the processor of {name!r} {what} {found}, and the model wants {wanted}; give the processor that "
                "the model came with"
            )
    if len(tokenizer) > config.text_config.vocab_size:
        raise ConfigError(
            f"the processor of {name!r} has {len(tokenizer)} subwords, and the model {config.text_config.vocab_size}; "
            "give the processor that the model came with"
        )


def _plan_of(folder: Path) -> SeeingPlan:
    if (folder / DESCRIPTION).is_file():
        raise ConfigError(f"the model in {shown_path(folder)} reads words alone; play it as text:RUN")
    path = folder / SEEING_DESCRIPTION
    if not path.is_file():
        return SeeingPlan(model=str(folder), full=True)
    try:
        return read_dataclass(SeeingPlan, read_json_object(path))
    except DataError as error:
        raise DataError(f"{shown_path(path)} cannot be read ({error}); train the model again") from error


def _processor_of(name: str) -> Any:
    folder = local_folder(name)
    if folder is not None:
        picture_size(folder)  # transformers says of a file that is missing or damaged what helps nobody
    processor = load_processor(name)
    if not hasattr(processor, "full_image_sequence") or not processor.chat_template:
        raise ConfigError(
            f"the processor of {name!r} is no Gemma 3's for chats with pictures; name a model as google/gemma-3-4b-it"
        )
    return processor


def _base(plan: SeeingPlan, processor: Any, dtype: torch.dtype) -> Any:
    require_matching(processor, load_config_that_sees(plan.model), plan.model)
    gemma = load_that_sees(plan.model, dtype)
    if plan.use_4bit:
        quantise_linears(gemma.model.language_model)
        gemma.is_loaded_in_4bit = True
    gemma.name_or_path = ""  # see ChatModel.save
    return gemma


def _with_adapters(gemma: Any, plan: SeeingPlan) -> Any:
    targets = rf"language_model\..*\.({'|'.join(LORA_TARGETS)})"
    if plan.vision_layers:
        targets = rf"{targets}|.*vision_tower\..*\.({'|'.join(_TOWER_TARGETS)})"
    return with_adapters(gemma, plan, rf".*{targets}")
