"""Versions of models on the Hugging Face hub, by its own library.

The token is the one that the library finds: HF_TOKEN, or that of `hf auth login`. A version's repository holds its
files, its card, and registry.json, which is its manifest; `pull` keeps nothing that this does not name.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gemma_metamon.errors import DataError, GemmaMetamonError
from gemma_metamon.registry.manifests import MAX_BYTES, Manifest, read_manifest
from gemma_metamon.registry.registry import Registry
from gemma_metamon.registry.storage import hashed
from gemma_metamon.strict_json import on_one_line, read_bounded

logger = logging.getLogger(__name__)

MANIFEST: Final = "registry.json"


def push(registry: Registry, manifest: Manifest, repo: str, *, private: bool = True) -> str:
    """Puts a version into a repository of models, as one commit with the tag v<version>; returns the commit's address.

    Args:
        registry: that has it.
        manifest: of the version.
        repo: OWNER/NAME; made where it is not there.
        private: whether a new repository is closed to others.

    Raises:
        MissingFileError, DataError: a version that is not whole.
        GemmaMetamonError: what the hub refused, or no answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = registry.fetch(manifest)
    operations = [CommitOperationAdd(name, folder / name) for name in manifest.files]
    operations.append(CommitOperationAdd(MANIFEST, manifest.as_json()))
    message = f"{manifest.name}@{manifest.version}, from {manifest.source}"
    with _asking(repo):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=message)
        api.create_tag(repo, tag=f"v{manifest.version}", revision=commit.oid, exist_ok=True)
    return str(commit.commit_url)


def pull(registry: Registry, repo: str, *, revision: str | None = None, name: str | None = None) -> Manifest:
    """Registers what a repository holds as the next version of a model, once each file has the hash that it should.

    Args:
        registry: gets it.
        repo: OWNER/NAME, of `push`.
        revision: a branch, tag (v3) or commit; None is the newest.
        name: of the model here; None is its name there.

    Raises:
        DataError: a repository that is none of `push`, or a file that is not what it should be.
        GemmaMetamonError: what the hub refused, or no answer.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    with tempfile.TemporaryDirectory() as scratch:
        with _asking(repo):
            told = Path(hf_hub_download(repo, MANIFEST, revision=revision, local_dir=scratch))
        manifest = read_manifest(read_bounded(told, MAX_BYTES), f"{MANIFEST} of {repo}")
        with _asking(repo):
            snapshot_download(repo, revision=revision, local_dir=scratch, allow_patterns=list(manifest.files))
        files = {file: Path(scratch, file) for file in manifest.files}
        for file, path in files.items():
            row = manifest.files[file]
            if not path.is_file():
                raise DataError(f"{repo} lacks {file}, which its {MANIFEST} names; ask its owner to push it again")
            with path.open("rb") as opened:
                if hashed(opened) != (row.sha256, row.size):
                    raise DataError(
                        f"{file} of {repo} is damaged (its SHA-256 is not that of {MANIFEST}); ask its owner to push "
                        "it again"
                    )
        source = f"{repo} on the hub, there {manifest.name}@{manifest.version} from {manifest.source}"
        return registry.register(name or manifest.name, manifest.kind, files, source=source, epoch=manifest.epoch)


@contextmanager
def _asking(repo: str) -> Iterator[None]:
    """Raises GemmaMetamonError, one sentence, for whatever the hub or the way to it refuses."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    client_error: type[Exception] = HfHubHTTPError.__bases__[0]  # of requests, httpx or httpx2, by the library's age
    try:
        yield
    except (HFValidationError, FileNotFoundError) as error:  # the second where nothing answers and nothing is cached
        raise GemmaMetamonError(f"{repo} cannot be reached on the hub ({on_one_line(error)})") from error
    except (HfHubHTTPError, client_error) as error:
        response = getattr(error, "response", None)
        status = "no answer" if response is None else f"status {response.status_code}"
        raise GemmaMetamonError(
            f"the hub did not serve {repo} ({status}: {on_one_line(error)}); look at the name, and log in with "
            "`hf auth login` or HF_TOKEN where it is private"
        ) from error
