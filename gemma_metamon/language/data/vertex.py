"""Chat data on its way to Google: uploaded to Cloud Storage, and a supervised tuning of a Gemini model begun on it.

With Google's own clients, and credentials as they find them ("application default"). Nothing here was ever run against
Google itself: it is tested against an emulator of the storage, and a stand-in of the tuning's endpoint.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma_metamon.errors import DataError, MissingFileError, ServerError
from gemma_metamon.extras import require_extra
from gemma_metamon.strict_json import on_one_line, parse_json_object, shown_path

LOCATION: Final = "us-central1"
_FOLDER: Final = "gemma-metamon"


@dataclass(frozen=True)
class TuningFile:
    """A file of chats in Gemini's shape.

    Attributes:
        path: here.
        rows: chats in it.
        size_bytes: of it.
        name: in the bucket: by its content, so that the same file is stored once.
    """

    path: Path
    rows: int
    size_bytes: int
    name: str


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """What is to be uploaded, and which tuning begun.

    Attributes:
        train: what is learned.
        validation: what is measured on; None measures on nothing.
        project: Google Cloud's, which pays.
        bucket: of its Cloud Storage.
        model: to be tuned, "gemini-2.5-flash".
        location: where it is tuned.
        epochs: how often each chat is learned; None leaves it to Google.
        display_name: of the tuned model; None leaves it to Google.
    """

    train: TuningFile
    validation: TuningFile | None = None
    project: str
    bucket: str
    model: str
    location: str = LOCATION
    epochs: int | None = None
    display_name: str | None = None

    @property
    def files(self) -> list[TuningFile]:
        """All that is uploaded."""
        return [self.train, *([] if self.validation is None else [self.validation])]

    def uri(self, file: TuningFile) -> str:
        """Of an uploaded file."""
        return f"gs://{self.bucket}/{file.name}"


def look_over(path: Path) -> TuningFile:
    """A file that every row of is a chat as `chat export --to gemini` writes it.

    Raises:
        MissingFileError: there is no such file.
        DataError: a row that is none, with its line; no rows.
    """
    if not path.is_file():
        raise MissingFileError(f"no file {shown_path(path)}; make it with `gemma-metamon chat export --to gemini`")
    digest, rows = hashlib.sha256(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            try:
                reason = _fault(parse_json_object(line))
            except DataError as error:
                reason = str(error)
            if reason is not None:
                raise DataError(
                    f"{shown_path(path)}, line {number}: {reason}; make it with `gemma-metamon chat export --to gemini`"
                )
            rows += 1
    if not rows:
        raise DataError(f"{shown_path(path)} holds no chats")
    return TuningFile(path, rows, path.stat().st_size, f"{_FOLDER}/{digest.hexdigest()[:16]}.jsonl")


def _fault(row: dict[str, Any]) -> str | None:
    """Why a row is no chat that a Gemini can be tuned on; None of all others."""
    contents = row.get("contents")
    if not isinstance(contents, list) or not contents:
        return 'no list "contents"'
    roles = [content.get("role") if isinstance(content, dict) else None for content in contents]
    if roles != ["user", "model"] * (len(roles) // 2):
        return "user and model do not take turns, the model last"
    parts = [content.get("parts") for content in contents]
    if not all(isinstance(each, list) and each and all(_is_text(part) for part in each) for each in parts):
        return 'a turn without "parts" of "text"'
    return None


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str) and bool(part["text"])


def describe(plan: TuningPlan) -> str:
    """What `submit` would do, for people."""
    lines = [
        f"upload {shown_path(file.path)} ({file.rows} chats, {file.size_bytes / 1e6:.1f} MB) to {plan.uri(file)}"
        for file in plan.files
    ]
    epochs = "as many epochs as Google chooses" if plan.epochs is None else f"{plan.epochs} epochs"
    lines.append(f"begin the tuning of {plan.model} in {plan.project}, {plan.location}: {epochs}, which costs money")
    return "\n".join(lines)


def submit(plan: TuningPlan, credentials: Any = None) -> str:
    """Uploads the files and begins the tuning. Returns the job's name, "projects/P/locations/L/tuningJobs/N".

    A file that is in the bucket already is not uploaded again.

    Args:
        plan: what to do.
        credentials: Google's; None takes those that its clients find.

    Raises:
        MissingDependencyError: without Google's clients.
        ServerError: there are no credentials, or Google refuses something or is not reached; it says what was done.
    """
    require_extra("vertex", "chat submit")
    import google.auth

    done = "nothing was uploaded"
    try:
        if credentials is None:
            credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
        for file in plan.files:
            _upload(plan, file, credentials)
            done = f"{plan.uri(file)} is uploaded, and no tuning was begun"
        return _begin(plan, credentials)
    except Exception as error:  # each of three libraries below has errors of its own for a network and for a refusal
        said = on_one_line(error) or type(error).__name__
        raise ServerError(f"Google's clients say: {said}; {done}") from error


def _upload(plan: TuningPlan, file: TuningFile, credentials: Any) -> None:
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud import storage

    client = storage.Client(project=plan.project, credentials=credentials)
    try:
        blob = client.bucket(plan.bucket).blob(file.name)
        if not blob.exists():
            # 0: only where there is none of that name
            blob.upload_from_filename(str(file.path), content_type="application/jsonl", if_generation_match=0)
    except PreconditionFailed:  # somebody else was faster with the same content
        pass
    finally:
        client.close()


def _begin(plan: TuningPlan, credentials: Any) -> str:
    from google import genai
    from google.genai import types

    client = genai.Client(vertexai=True, project=plan.project, location=plan.location, credentials=credentials)
    try:
        validation = None if plan.validation is None else plan.uri(plan.validation)
        job = client.tunings.tune(
            base_model=plan.model,
            training_dataset=types.TuningDataset(gcs_uri=plan.uri(plan.train)),
            config=types.CreateTuningJobConfig(
                epoch_count=plan.epochs,
                tuned_model_display_name=plan.display_name,
                validation_dataset=None if validation is None else types.TuningValidationDataset(gcs_uri=validation),
            ),
        )
    finally:
        client.close()
    if not job.name:
        raise ServerError(f"the tuning has no name: {json.dumps(job.model_dump(mode='json'))[:200]}")
    return str(job.name)
