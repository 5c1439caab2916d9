"""How many checkpoints stay, counted on the disk."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_metamon.runs import keeping
from gemma_metamon.runs.checkpoints import Checkpoint
from gemma_metamon.runs.keeping import Keeping


@settings(max_examples=8)
@given(
    last=st.none() | st.integers(1, 4),
    best=st.none() | st.just("agreement"),
    epochs=st.integers(1, 6),
    saves=st.integers(0, 4),
    measured=st.lists(st.floats(0, 1), min_size=7, max_size=7),
)
def test_no_more_are_there_than_it_says(
    tmp_path_factory: pytest.TempPathFactory,
    last: int | None,
    best: str | None,
    epochs: int,
    saves: int,
    measured: list[float],
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    keeps = Keeping(last=last, best=best)
    most = keeps.most(epochs, between=saves > 0)
    with pytest.MonkeyPatch.context() as patch:  # folders alone: what they hold does not decide how many stay
        patch.setattr(
            Checkpoint,
            "read_meta",
            lambda self: SimpleNamespace(measured={"held_out/agreement": measured[self.epoch]}),
        )
        for epoch in range(epochs + 1):
            names = [f"epoch_{epoch}"] + [f"epoch_{epoch}_update_{10 * epoch + n}" for n in range(1, saves + 1)]
            for name in names if epoch < epochs else names[:1]:
                folder: Path = run_dir / "ckpts" / name
                folder.mkdir(parents=True)
                assert len([each for each in folder.parent.iterdir() if each.is_dir()]) <= most
                keeping.keep(run_dir, keeps)
