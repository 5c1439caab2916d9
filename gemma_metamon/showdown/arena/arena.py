"""Battles without a server: a pool of Node workers, each playing many battles with the simulator as a library.

Both seats of a battle are told what players on a server are told, message by message, and answer as players on a server
do. All battles in play are served by one thread, this one: `receive` gives whatever has happened, in any number of
battles, and whoever decides for them answers with `send`. What a battle draws comes from its seeds alone. `fork` copies
a battle for one seat: what that seat was not told is not in the copy, and a sampled team stands in its place.
"""

import json
import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any

from gemma_metamon.errors import ConfigError, ServerError
from gemma_metamon.showdown.arena.hidden import HiddenTeam
from gemma_metamon.showdown.arena.workers import Worker
from gemma_metamon.showdown.simulator.installation import ensure_installed, find_node

SEATS = ("p1", "p2")
SILENCE_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
_FULL_PIPE_S = 0.01  # until it is tried again


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Who sits in one seat of a battle.

    Attributes:
        name: a user name, another one than that of the other seat.
        team: packed; None in formats that give out teams.
        seed: of the team that the format gives out (see seeds.simulator_seed); None where teams are brought.
    """

    name: str
    team: str | None = None
    seed: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a battle ended.

    Attributes:
        winner: "p1", "p2", or None of a tie.
        turns: the last turn.
        inputs: its input log: `Arena.replay` plays it again. Empty of a fork.
    """

    winner: str | None
    turns: int
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class News:
    """What one command brought about in one battle.

    Attributes:
        battle: its name.
        told: messages for each seat, in order, as a server sends them to a player, without the line with the room's
            name. Only seats that were told something are in it.
        ended: of a battle that is over; it is forgotten.
        lost: why a battle could not be started, or not be played to its end, in one sentence; it is forgotten.
        worker_lost: whether that is because its worker has ended: begun again, it would go as it did.
        silent: whether the worker was ended because it had said nothing for too long.
        ahead: of `Arena.look_ahead`: a row for each world, in it how each choice stands, in 0..1.
    """

    battle: str
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ended: Ending | None = None
    lost: str | None = None
    worker_lost: bool = False
    silent: bool = False
    ahead: Sequence[Sequence[float]] | None = None


@dataclass(frozen=True, kw_only=True)
class World:
    """What a seat takes to be so: the other side's team, and the seed of all that is drawn; see `Arena.fork`."""

    seed: str
    hidden: HiddenTeam


@dataclass(slots=True)
class _Place:
    """Where a battle is played: the number that stands for it in the worker, and the worker's last command for it."""

    worker: Worker
    number: int
    given: int = 0


class Arena:
    """A pool of workers. A context manager: the workers end with the block, or with this process, however it ends.

    How many battles are played at a time is the caller's: none goes on before both seats have answered, so that what
    waits to be received is never more than one turn of each.

    Args:
        workers: Node processes. The battles are the same for any number of them.
        silence_timeout_s: a worker that has something to do and says nothing for so long is ended. One that has just
            begun has START_TIMEOUT_S at least.
        max_heap_mb: of each worker; None leaves it to Node.

    Raises MissingDependencyError where Node.js is missing or too old, ServerError where the simulator cannot be
    installed, ConfigError for no worker.
    """

    def __init__(
        self, workers: int = 1, *, silence_timeout_s: float = SILENCE_TIMEOUT_S, max_heap_mb: int | None = None
    ) -> None:
        if workers < 1:
            raise ConfigError(f"an arena of {workers} workers plays nothing; give 1 or more")
        self._silence_timeout_s = silence_timeout_s
        self._max_heap_mb = max_heap_mb
        self._package = ensure_installed()
        self._node = find_node()
        self._answers: queue.SimpleQueue[tuple[Worker, list[bytes] | None]] = queue.SimpleQueue()
        self._place: dict[str, _Place] = {}
        self._names: dict[int, str] = {}
        self._kept: list[News] = []  # of battles that nobody has asked for yet
        self._silent: set[Worker] = set()  # that were ended because they said nothing
        self._begun = 0
        self._workers: list[Worker] = []
        try:
            for _ in range(workers):
                self._workers.append(self._new_worker())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Arena":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def battles(self) -> frozenset[str]:
        """The names of those in play."""
        return frozenset(self._place)

    def has_lost(self, battle: str) -> bool:
        """Whether it went with its worker, and nobody has asked for that news yet."""
        return any(news.battle == battle and news.worker_lost for news in self._kept)

    @property
    def process_ids(self) -> list[int]:
        """Of the workers."""
        return [worker.process.pid for worker in self._workers]

    def start(self, battle: str, *, battle_format: str, seed: str, seats: tuple[Seat, Seat]) -> None:
        """Begins a battle. A format or team that the simulator refuses is told by `News.lost`, in its own words.

        Args:
            battle: a name that no other battle in play has; players of poke-env want "battle-gen1ou-12".
            battle_format: a singles format.
            seed: of the battle's dice (see seeds.simulator_seed).
            seats: who plays; the first one is the simulator's p1.
        """
        players = [{"name": seat.name, "team": seat.team, "seed": seat.seed} for seat in seats]
        self._begin(
            self._least_busy(), battle, {"do": "start", "format": battle_format, "seed": seed, "players": players}
        )

    def replay(self, battle: str, inputs: Sequence[str]) -> None:
        """Plays an input log, of an `Ending` or the first lines of one; what it does not end can be played on.

        Both seats are told all they were told before, but for choices that were refused.
        """
        self._begin(self._least_busy(), battle, {"do": "replay", "inputs": list(inputs)})

    def fork(self, source: str, battle: str, *, seat: str, seed: str, hidden: HiddenTeam) -> None:
        """Begins a copy of a battle in play at its present decision, for somebody who plays its `seat`.

        Of the other side the copy has the team that is given, and what everybody was shown: HP as far as they were
        shown, status, boosts, moves used, conditions. The seat's own side stays as it is. The copy rolls dice of its
        own, and what nobody is told is drawn again: how long a sleep or a confusion lasts, which HP lie behind the
        HP shown, what the other seat has chosen already. So with the same `hidden` and `seed` the copies of two battles
        are the same if the seat has been told the same of both. Both seats are asked anew. The copy has no inputs to
        be replayed (`Ending.inputs` is empty): they would tell the true team.

        Args:
            source: a battle in play; it goes on unchanged.
            battle: the copy's name.
            seat: "p1" or "p2".
            seed: of all that the copy draws.
            hidden: the other side's team, the Pokémon on the field first (matches.forks.fork_for makes one from what
                the seat was told); or TRUTH, the team that it really has, for tests and for looking back.

        Raises ConfigError where the source is over or was never begun, or there is no such seat. A team that is not the
        one that was seen is told by `News.lost`.
        """
        place = self._source(source, seat)
        command = {"do": "fork", "source": place.number, "seat": seat, "seed": seed, "hidden": _team(hidden)}
        self._begin(place.worker, battle, command)

    def look_ahead(
        self,
        source: str,
        name: str,
        *,
        seat: str,
        worlds: Sequence[World],
        choices: Sequence[str],
        turns: int,
        times: int = 1,
    ) -> None:
        """Plays each choice in forks of its own for each of the worlds, a few turns on, within the worker.

        After the choice, both sides choose as DuelTrainer does. `News.ahead` says how the forks stand then: about the
        chance to win, 1 for one that is won, 0.5 for a tie. In one world all choices meet the same team, and each time
        the same dice. In generation 1 forks are played in a model of the simulator's rules, far faster than these.
        Nothing stays of the forks: with the news, the name is free again.

        Args:
            source: a battle in play; it goes on unchanged.
            name: what the news are of.
            seat: "p1" or "p2".
            worlds: one row of the result each.
            choices: as the seat may send them now: "move 1", "switch 3".
            turns: 1 is this turn alone.
            times: that each choice is played in each world.

        Raises as `fork`.
        """
        place = self._source(source, seat)
        guesses = [{"seed": world.seed, "hidden": _team(world.hidden)} for world in worlds]
        command = {"do": "ahead", "source": place.number, "seat": seat, "worlds": guesses, "choices": list(choices)}
        self._begin(place.worker, name, {**command, "turns": turns, "times": times})

    def send(self, battle: str, seat: str, message: str) -> None:
        """A seat's answer as a server takes it: "/choose move 2", "/team 213456", "/forfeit".

        Sent with the next `receive`. A battle that has ended meanwhile takes no notice. What the simulator refuses is
        told to the seat by an `|error|` message. Raises ConfigError for a seat that is neither p1 nor p2.
        """
        _require_seat(seat)
        if battle in self._place:
            self._give(self._place[battle], {"do": "send", "seat": seat, "message": message})

    def drop(self, battle: str) -> None:
        """Ends a battle in play without a result; nothing more is told of it."""
        if battle in self._place:
            self._give(self._place[battle], {"do": "drop"})
            self._forget(battle)

    def receive(self, at_least: int = 1) -> list[News]:
        """What has happened since the last time: sends all that was given, and waits.

        Waits until there are `at_least` so many news, or until no more can come before somebody answers. Empty only
        where nothing was begun or answered. Battles of a worker that has ended are lost, which the news say; another
        worker takes its place.

        Raises ServerError where a worker ends before it has done anything: the simulator does not run here.
        """
        news, self._kept = self._kept, []
        self._hear(news, lambda: len(news) < at_least and any(worker.is_busy for worker in self._workers))
        return news

    def settle(self, battles: Iterable[str]) -> list[News]:
        """Like `receive`, of these battles: waits until no more can come of them before somebody answers.

        What comes of others meanwhile is kept for the next time. Raises as `receive` does.
        """
        wanted = set(battles)
        news, self._kept = self._kept, []
        self._hear(news, lambda: any(self._is_unsettled(battle) for battle in wanted))
        self._kept = [each for each in news if each.battle not in wanted]
        return [each for each in news if each.battle in wanted]

    def _hear(self, news: list[News], waits: Callable[[], bool]) -> None:
        """Appends what the workers have to say, as long as it waits for more; what there is is taken in any case."""
        heard_at = time.monotonic()
        while True:
            full = [worker for worker in self._workers if not worker.flush()]
            waiting = waits()
            try:
                worker, lines = self._answers.get(waiting, _FULL_PIPE_S if full else self._silence_timeout_s)
            except queue.Empty:
                if not waiting:
                    return
                if time.monotonic() - heard_at >= self._silence_timeout_s:
                    self._end_silent()
                continue
            heard_at = time.monotonic()
            if lines is None:
                news += self._replace(worker)
            else:
                news += [each for line in lines if (each := self._read(worker, line)) is not None]

    def _is_unsettled(self, battle: str) -> bool:
        place = self._place.get(battle)
        return place is not None and place.worker.done < place.given

    def close(self) -> None:
        """Ends all workers, with whatever they play."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        self._place.clear()
        self._names.clear()
        self._kept.clear()

    def _new_worker(self) -> Worker:
        return Worker(self._node, self._package, self._answers, max_heap_mb=self._max_heap_mb)

    def _source(self, battle: str, seat: str) -> _Place:
        _require_seat(seat)
        if battle not in self._place:
            raise ConfigError(f"{battle!r} is not in play: only a battle that has begun and not ended can be forked")
        return self._place[battle]

    def _least_busy(self) -> Worker:
        return min(self._workers, key=lambda worker: worker.n_battles)

    def _begin(self, worker: Worker, battle: str, command: dict[str, Any]) -> None:
        if battle in self._place:
            raise ConfigError(f"a battle called {battle!r} is in play already; give the next one another name")
        self._begun += 1
        place = self._place[battle] = _Place(worker, self._begun)
        self._names[self._begun] = battle
        worker.n_battles += 1
        self._give(place, command)

    def _give(self, place: "_Place", command: dict[str, Any]) -> None:
        place.worker.give({**command, "battle": place.number})
        place.given = place.worker.sent

    def _forget(self, battle: str) -> None:
        place = self._place.pop(battle)
        del self._names[place.number]
        place.worker.n_battles -= 1

    def _read(self, worker: Worker, line: bytes) -> News | None:
        answer = json.loads(line)
        worker.done = answer["done"]
        battle = self._names.get(answer.get("battle"))
        if battle is None:  # no news, or of a battle that was dropped meanwhile
            return None
        refused, failed, ended = answer.get("refused"), answer.get("failed"), answer.get("ended")
        lost = refused and f"the simulator refuses {battle}: {refused}"
        lost = lost or (failed and f"the simulator failed in {battle}: {failed}")
        if lost or ended or "ahead" in answer:
            self._forget(battle)
        told = {seat: messages for seat, messages in answer.get("told", {}).items() if messages}
        return News(battle=battle, told=told, ended=_ending(ended), lost=lost or None, ahead=answer.get("ahead"))

    def _end_silent(self) -> None:
        for worker in self._workers:
            begins = worker.done == 0 and time.monotonic() - worker.began_at < START_TIMEOUT_S
            if worker.is_busy and not begins:
                self._silent.add(worker)
                worker.process.kill()

    def _replace(self, worker: Worker) -> list[News]:
        """A new worker in the place of one that has ended; news of the battles that went with it."""
        if worker not in self._workers:
            return []
        how, pid, began = worker.how_it_ended(), worker.process.pid, worker.done > 0
        silent = worker in self._silent
        if silent:
            self._silent.remove(worker)
            how = f"said nothing for {self._silence_timeout_s:g} seconds and {how}"
        worker.close()
        lost = [battle for battle, place in self._place.items() if place.worker is worker]
        for battle in lost:
            self._forget(battle)
        self._workers.remove(worker)
        if not began and worker.sent:
            raise ServerError(f"the simulator does not run here: its process {how}; look at Node.js and its memory")
        self._workers.append(self._new_worker())
        why = f"worker {pid}, which played it, {how}"
        return [
            News(battle=battle, lost=f"{battle} is lost: {why}", worker_lost=True, silent=silent) for battle in lost
        ]


def _require_seat(seat: str) -> None:
    if seat not in SEATS:
        raise ConfigError(f"a battle has no seat {seat!r}; give p1 or p2")


def _team(hidden: HiddenTeam) -> str | list[dict[str, Any]]:
    return hidden if isinstance(hidden, str) else [asdict(pokemon) for pokemon in hidden]


def _ending(ended: dict[str, Any] | None) -> Ending | None:
    if ended is None:
        return None
    return Ending(winner=ended["winner"], turns=ended["turns"], inputs=tuple(ended["inputs"]))
