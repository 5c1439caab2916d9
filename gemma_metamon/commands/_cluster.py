"""`--ray`: who plays on a cluster, and what plays their battles there."""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_metamon.errors import ConfigError
from gemma_metamon.extras import require_extra

if TYPE_CHECKING:
    from gemma_metamon.commands._players import FoundPlayer
    from gemma_metamon.showdown.matches.processes import PlayPlans
    from gemma_metamon.showdown.players.contestants import Contestant


def require_ray(args: argparse.Namespace) -> None:
    """Raises MissingDependencyError for --ray without the extra, ConfigError beside a flag that it does not go with."""
    if args.ray is None:
        return
    for flag in ("server", "watch"):
        if vars(args).get(flag) is not None:
            raise ConfigError(
                f"--ray plays in arenas on other machines, and --{flag} on this one; leave out one of them"
            )
    require_extra("ray", "--ray")


@contextmanager
def playing(
    args: argparse.Namespace, found: "Sequence[FoundPlayer]", *, battles_each: int, **options: Any
) -> "Iterator[tuple[list[Contestant], PlayPlans | None]]":
    """The contestants, and what plays their battles: None plays them on this machine.

    Args:
        args: with `ray`, `workers`, `concurrency` and `device`.
        found: who plays.
        battles_each: rows of memory that a checkpoint has for each of the battles that are in play at a time.
        options: of `contestants`.

    Raises:
        ConfigError: somebody who cannot play on a cluster.
        GemmaMetamonError: as `contestants`, `connected` and `PolicyServers`.
    """
    from gemma_metamon.commands._players import contestants

    rows = battles_each * args.concurrency
    if args.ray is None:
        yield contestants(found, max_battles=rows, device=args.device, **options), None
        return
    for player in found:
        _require_on_cluster(player)
    from gemma_metamon.cluster.connecting import connected
    from gemma_metamon.cluster.playing import ClusterPlay
    from gemma_metamon.cluster.serving import PolicyServers

    with connected(args.ray, workers=args.workers):
        scripted = [player for player in found if not player.members]
        here = dict(zip(scripted, contestants(scripted, max_battles=rows, device=None, **options), strict=True))
        learned = tuple(dict.fromkeys(player for player in found if player.members))
        if not learned:
            yield [here[player] for player in found], ClusterPlay()
            return
        build = _Build(learned, rows, Path.cwd(), {"device": args.device, **options})
        servers = PolicyServers(build, on_gpus=False if args.device == "cpu" else None)
        try:
            here |= {player: who for player, who in zip(learned, servers.contestants, strict=True) if who is not None}
            yield [here[player] for player in found], ClusterPlay(servers)
        finally:
            servers.close()


@dataclass(frozen=True)
class _Build:
    """Makes the learned contestants on a server's machine: see `cluster.serving.Build`."""

    found: "tuple[FoundPlayer, ...]"
    rows_of_a_lease: int
    folder: Path
    options: Mapping[str, Any]

    def __call__(self, leases: int) -> "list[Contestant]":
        from gemma_metamon.commands._players import contestants

        with suppress(FileNotFoundError):  # runs are named from there
            os.chdir(self.folder)
        return contestants(self.found, max_battles=self.rows_of_a_lease * leases, **self.options)


def _require_on_cluster(player: "FoundPlayer") -> None:
    if player.chat is not None:
        why = "counts what it has asked of its endpoint in one process"
    elif player.words is not None:
        why = "is asked by players beside it, in one process"
    elif player.search is not None and player.members:
        why = "searches with its agent beside the arena that its battle is in"
    else:
        return
    raise ConfigError(f"{player.text} {why}, and --ray plays in many; leave --ray out, or name other players")
