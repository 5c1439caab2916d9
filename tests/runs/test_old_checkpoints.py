"""A checkpoint of an earlier version loads and plays as it did: its words have the ids and subwords they had.

Made by scripts/build_checkpoint_golden.py in a checkout of that version. New words join the subword table beside the
packaged vocabulary (scripts/build_subwords.py --add), because the hash of that is in every checkpoint.
"""

import json
import tarfile

import numpy as np
import pytest
from support.paths import GOLDENS

from gemma_metamon.battle.replays import load_battle
from gemma_metamon.explain.follow import Follower, follow_recorded
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.loading import load_for_play
from gemma_metamon.text.subwords import SubwordTable

KEPT = sorted((GOLDENS / "checkpoints").glob("*.tar.xz"))
HASHES = {
    "natural": "9fc70d26cc0f74dbe97871f52981afd327386089d9f106146a3601fb7c9acb0c",
    "raw": "6175224fe3bd48971541f4e1a529c3824ac43b9be9da038b5ca3be68cd026679",
}


@pytest.fixture(scope="module", params=KEPT, ids=lambda path: path.name)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    run = tmp_path_factory.mktemp("old")
    with tarfile.open(request.param) as archive:
        for member in filter(tarfile.TarInfo.isfile, archive):  # extractall's filter is younger than Python 3.11.2
            (run / member.name).parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            (run / member.name).write_bytes(content.read())
    return Checkpoint.find(run / "run")


def test_an_old_checkpoint_plays_as_it_did(checkpoint: Checkpoint) -> None:
    expected = json.loads((checkpoint.folder / "expected.json").read_text())
    battle = GOLDENS / "battles" / expected["battle"]
    playable = load_for_play(checkpoint, "cpu")
    decisions = [*follow_recorded(Follower(playable.agent, playable.view), load_battle(battle))]
    assert len(decisions) == len(expected["probabilities"]) > 20
    for decision, before in zip(decisions, expected["probabilities"], strict=True):
        np.testing.assert_allclose([option.probability for option in decision.options], before, rtol=0, atol=1e-4)


def test_the_probabilities_tell_one_decision_from_another(checkpoint: Checkpoint) -> None:
    """Or the test above would pass with any words."""
    rows = [tuple(row) for row in json.loads((checkpoint.folder / "expected.json").read_text())["probabilities"]]
    assert len(set(rows)) > len(rows) // 2
    assert max(max(row) - min(row) for row in rows) > 0.01


@pytest.mark.parametrize("phrasing", HASHES)
def test_the_packaged_words_hash_to_what_checkpoints_hold(phrasing: str) -> None:
    assert SubwordTable.load(phrasing).hash == HASHES[phrasing]
