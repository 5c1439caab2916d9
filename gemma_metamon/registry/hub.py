"""Versions of models on the Hugging Face hub, by its own library.

The token is the one that the library finds: HF_TOKEN, or that of `hf auth login`. A version's repository holds its
files, its card, and registry.json, which is its manifest; `pull` keeps nothing that this does not name.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gemma_metamon.errors import ConfigError, DataError, GemmaMetamonError
from gemma_metamon.registry.manifests import MAX_BYTES, Manifest, read_manifest
from gemma_metamon.registry.registry import Registry
from gemma_metamon.registry.storage import hashed
from gemma_metamon.strict_json import on_one_line, read_bounded, shown_path

logger = logging.getLogger(__name__)

MANIFEST: Final = "registry.json"


def push(registry: Registry, manifest: Manifest, repo: str, *, private: bool = True) -> str:
    """Puts a version into a repository of models, as one commit with the tag v<version>; returns the commit's address.

    A tag stays what it is: who pulls by it expects the same files for ever. So a repository that has this tag for other
    files is refused, and nothing is sent.

    Args:
        registry: that has it.
        manifest: of the version.
        repo: OWNER/NAME; made where it is not there.
        private: whether a new repository is closed to others.

    Raises:
        MissingFileError, DataError: a version that is not whole.
        ConfigError: a repository whose tag of that number is of other files.
        GemmaMetamonError: what the hub refused, or no answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = registry.fetch(manifest)
    operations = [CommitOperationAdd(name, folder / name) for name in manifest.files]
    operations.append(CommitOperationAdd(MANIFEST, manifest.as_json()))
    message = f"{manifest.name}@{manifest.version}, from {manifest.source}"
    tag = f"v{manifest.version}"
    is_there = _is_tagged(repo, tag, manifest)
    with _asking(repo):
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=message)
        api.create_tag(repo, tag=tag, revision=commit.oid, exist_ok=is_there)
    return str(commit.commit_url)


def _is_tagged(repo: str, tag: str, manifest: Manifest) -> bool:
    """Whether the version's files are tagged so already. Raises ConfigError where others are."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    other = "something that was not pushed from a registry"
    with tempfile.TemporaryDirectory() as scratch, _asking(repo):
        try:
            found = HfApi().model_info(repo, revision=tag)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return False
        if any(file.rfilename == MANIFEST for file in found.siblings or ()):
            told = Path(hf_hub_download(repo, MANIFEST, revision=found.sha, local_dir=scratch))
            with contextlib.suppress(DataError):
                there = read_manifest(read_bounded(told, MAX_BYTES), f"{MANIFEST} of {repo}")
                if there.files == manifest.files:
                    return True
                other = f"{there.name}@{there.version} from {shown_path(there.source)}"
    raise ConfigError(
        f"{repo} has a tag {tag} already, of {other}, which is not {manifest.name}@{manifest.version} from "
        f"{manifest.source}; name another repository, or delete the tag there"
    )


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
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    with _asking(repo):
        commit = HfApi().model_info(repo, revision=revision).sha  # a branch may go on meanwhile
    with tempfile.TemporaryDirectory() as scratch:
        with _asking(repo):
            told = Path(hf_hub_download(repo, MANIFEST, revision=commit, local_dir=scratch))
        manifest = read_manifest(read_bounded(told, MAX_BYTES), f"{MANIFEST} of {repo}")
        with _asking(repo):
            snapshot_download(repo, revision=commit, local_dir=scratch, allow_patterns=list(manifest.files))
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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    client_error: type[Exception] = HfHubHTTPError.__bases__[0]  # of requests, httpx or httpx2, by the library's age
    try:
        yield
    # the second where nothing answers and nothing is cached, the third where HF_HUB_OFFLINE is set
    except (HFValidationError, FileNotFoundError, OfflineModeIsEnabled) as error:
        raise GemmaMetamonError(f"{repo} cannot be reached on the hub ({on_one_line(error)})") from error
    except UnicodeEncodeError:  # which holds the token; so it is not told as the cause, either
        raise ConfigError(
            "the hub's token (HF_TOKEN, or that of `hf auth login`) holds characters that no token has; set it again"
        ) from None
    except (HfHubHTTPError, client_error) as error:
        response = getattr(error, "response", None)
        status = "no answer" if response is None else f"status {response.status_code}"
        raise GemmaMetamonError(
            f"the hub did not serve {repo} ({status}: {on_one_line(error)}); look at the name, and log in with "
            "`hf auth login` or HF_TOKEN where it is private"
        ) from error
