"""An agent followed through a battle: at each decision its text, its policy, its critics, and its readout's attention.

A follower decides again by `agent.act`, with a memory of its own, and looks at what passes by. So what it reports is
what plays, also beyond the agent's memory, where whole trajectories read at once would differ.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gemma_metamon.battle.actions import FIRST_SWITCH, FIRST_TERA
from gemma_metamon.battle.observations import OpponentMemory
from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.state import BattleState, PokemonState
from gemma_metamon.nets.heads.critics import NCriticsTwoHot
from gemma_metamon.text.phrases import join_phrases, phrase
from gemma_metamon.text.slots import split_turn
from gemma_metamon.view import BattleView


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A part of the turn: its name, the text that Gemma reads for it, and its share of the readout's attention."""

    name: str
    text: str
    attention: float


@dataclass(frozen=True, kw_only=True)
class Option:
    """An action, how probable it is, and the return that each critic expects of it, in rewards."""

    action: int
    name: str
    probability: float
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Active:
    """A Pokémon on the field, by display names; hp is in 0..1."""

    name: str
    hp: float
    status: str


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of an action, by its name, that was played out so many times: the share won, with its 95 % interval."""

    name: str
    times: int
    won: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What somebody else, such as the agent's teacher, would have done; -1 of what is none of the legal actions.

    `tried`: what came of actions that were played out from there.
    """

    who: str
    action: int
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a page shows of a decision, whoever makes it.

    Attributes:
        timestep: from 0.
        player: the own active Pokémon.
        opponent: the other side's.
        bench: how many Pokémon could be sent in.
        opponents_remaining: of the other side's team.
        forced_switch: whether a Pokémon has to be replaced.
        options: the legal actions and the one taken, in order; their probabilities sum to 1.
        chosen: the action taken; None where it was not recorded.
        preferred: the most probable action.
        advice: what somebody else would have done; None where nobody was asked.
    """

    timestep: int
    player: Active
    opponent: Active
    bench: int
    opponents_remaining: int
    forced_switch: bool
    options: tuple[Option, ...]
    chosen: int | None
    preferred: int
    advice: Advice | None = None


@dataclass(frozen=True, kw_only=True)
class Decision(Shown):
    """One decision of an agent, looked at.

    Attributes:
        reward: for the decision before.
        entities: all parts of the turn, in the order of its text.
        start_attention: the share of the mark that a text begins with, where turns are read whole.
        subwords: how many of them Gemma reads.
        judged: the action of `distributions`: the one taken, or else the preferred one.
        distributions: of each critic, the probabilities of the bins of returns; none of critics that give a number.
    """

    reward: float
    entities: tuple[Entity, ...]
    start_attention: float
    subwords: int
    judged: int
    distributions: tuple[tuple[float, ...], ...]

    @property
    def judged_option(self) -> Option:
        """The option of the action `judged`."""
        return next(option for option in self.options if option.action == self.judged)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is the same at every decision.

    Attributes:
        granularity: "turn", the turn is read as one text, or "entity", each entity by itself.
        phrasing: of the texts.
        discount: that acts.
        temperature: of the policy.
        critics: how many; 0 where they never learned, because the agent imitates.
        returns: in rewards, what the bins of `Decision.distributions` stand for.
    """

    granularity: str
    phrasing: str
    discount: float
    temperature: float
    critics: int
    returns: tuple[float, ...]


class Follower:
    """Follows an agent through one battle.

    Args:
        agent: a MultiTaskAgent or Agent in eval mode, whose timestep encoder is a GemmaTstepEncoder.
        view: what it is shown.
        temperature: of its policy.
    """

    def __init__(self, agent: Any, view: BattleView, *, temperature: float = 1.0) -> None:
        self.agent = agent
        self.view = view
        self.temperature = temperature
        self.device = next(agent.parameters()).device
        self._slots = split_turn(view.obs_space)
        self._cache = agent.traj_encoder.init_cache(1, device=self.device)
        self._opponent = OpponentMemory()
        self._before: tuple[BattleState, int] | tuple[None, None] = (None, None)
        self._timestep = 0

    @torch.no_grad()
    def follow(self, state: BattleState, legal_actions: npt.NDArray[np.bool_], action: int | None) -> Decision:
        """Looks at the next decision of the battle.

        Args:
            state: that the agent decides in.
            legal_actions: (A,) or longer, True where the action is allowed.
            action: the one that was taken; None where it was not recorded.
        """
        legal_actions = legal_actions[: self.view.action_space.n]
        words, numbers = self.view.obs_space.observe(state, self._opponent)
        rl2 = self.view.rl2_at(state, *self._before)
        word_ids = self.view.vocabulary.encode(np.array(words))
        obs = {
            name: torch.from_numpy(array)[None, None].to(self.device)  # (1, 1, ...)
            for name, array in (
                ("text_tokens", word_ids),
                ("numbers", numbers),
                ("illegal_actions", ~legal_actions),
            )
        }
        probs, trajectory_state, attention = self._act(obs, torch.from_numpy(rl2)[None, None].to(self.device))
        values, distributions = self._judge(trajectory_state)  # (A, C), (A, C, bins)
        preferred = int(probs.argmax())
        judged = preferred if action is None else action
        shown = legal_actions.copy() if legal_actions.any() else np.ones_like(legal_actions)
        shown[judged] = True
        shown_words = self.view.vocabulary.decode(word_ids).tolist()  # "unknown" where the agent does not know a word
        decision = Decision(
            timestep=self._timestep,
            **on_field(state),
            reward=float(rl2[0]),
            entities=self._entities(shown_words, attention),
            start_attention=float(attention[0]),
            subwords=self._count_subwords(obs["text_tokens"][0]),
            options=tuple(
                Option(
                    action=option,
                    name=action_name(option, state),
                    probability=float(probs[option]),
                    values=tuple(values[option].tolist()),
                )
                for option in np.flatnonzero(shown).tolist()
            ),
            chosen=action,
            preferred=preferred,
            judged=judged,
            distributions=tuple(tuple(critic) for critic in distributions[judged].tolist()),
        )
        self._before = state, MISSING_ACTION if action is None else action
        self._timestep += 1
        return decision

    def setting(self) -> Setting:
        """What is the same at every decision of this agent."""
        agent, returns = self.agent, torch.zeros(0)
        if isinstance(agent.critics, NCriticsTwoHot) and agent.uses_critics:
            returns = agent.critics.bins.unsquash(agent.critics.bin_values) / agent.options.reward_multiplier
        return Setting(
            granularity=agent.tstep_encoder.granularity,
            phrasing=agent.tstep_encoder.phrasing,
            discount=agent.discounts[-1],
            temperature=self.temperature,
            critics=len(agent.critics) if agent.uses_critics else 0,
            returns=tuple(returns.tolist()),
        )

    def _act(self, obs: dict[str, Tensor], rl2s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The policy (A,), the state (1, 1, D) that it was made of, and the readout's attention (1 + E,) or (1 + W,).

        E slots, W words; what stands before them is the mark that a text begins with.
        """
        encoder = self.agent.tstep_encoder
        with _inputs_of(encoder.readout) as read, _inputs_of(self.agent.actor) as acted:
            _, probs = self.agent.act(
                obs,
                rl2s,
                torch.tensor([[[self._timestep]]], device=self.device),
                self._cache,
                torch.tensor([0]),
                temperature=self.temperature,
            )
            if not read:  # what the readout made of this text was remembered
                with _without_cache(encoder):
                    encoder.encode_texts(obs["text_tokens"][0])
        states, word_places = read[0]  # (1, T, hidden_size), (1, T)
        attention = encoder.readout.attention(states, word_places)[0].mean(-1)  # (T,)
        n_places = 1 + (len(self._slots) if encoder.entities is not None else obs["text_tokens"].shape[-1])
        places = torch.zeros(n_places, device=self.device).index_add(0, word_places[0].clamp(min=0), attention)
        return probs[0].cpu(), acted[0][0], places.cpu()

    def _judge(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the critics expect of every action under the discount that acts: returns (A, C), bins (A, C, bins).

        Nothing, (A, 0), of critics that never learned; no bins, (A, 0, 0), of critics that give a number.
        """
        agent, A = self.agent, self.view.action_space.n
        if not agent.uses_critics:
            return torch.zeros(A, 0), torch.zeros(A, 0, 0)
        each = torch.eye(A, device=self.device)[:, None, None, None]  # (A, 1, 1, 1, A)
        outputs = agent.critics(state, each.expand(-1, -1, -1, len(agent.discounts), -1))  # (A, 1, 1, C, G, bins or 1)
        if isinstance(agent.critics, NCriticsTwoHot):
            values, probs = agent.critics.values(outputs), outputs[:, 0, 0, :, -1].exp()
        else:
            values, probs = agent.popart(outputs, normalized=False), torch.zeros(A, 0, 0)
        return values[:, 0, 0, :, -1, 0].cpu() / agent.options.reward_multiplier, probs.cpu()

    def _entities(self, words: list[str], attention: Tensor) -> tuple[Entity, ...]:
        phrasing = self.agent.tstep_encoder.phrasing
        whole = self.agent.tstep_encoder.entities is None
        return tuple(
            Entity(
                name=slot.name,
                text=join_phrases(words[slot.start : slot.stop], phrasing),
                attention=float(attention[1 + slot.start : 1 + slot.stop].sum() if whole else attention[1 + index]),
            )
            for index, slot in enumerate(self._slots)
        )

    def _count_subwords(self, word_ids: Tensor) -> int:
        encoder = self.agent.tstep_encoder
        texts = word_ids if encoder.entities is None else encoder.entities.split(word_ids)[0]
        return int(encoder.subwords(texts).lengths.sum())


def follow_recorded(
    follower: Follower, battle: RecordedBattle, legal_actions: Sequence[npt.NDArray[np.bool_]] | None = None
) -> Iterator[Decision]:
    """The decisions of a recorded battle, one after the other.

    Args:
        follower: a new one.
        battle: T states, T - 1 decisions.
        legal_actions: what the simulator allowed at each decision. A file does not tell: without it the rule of the
            action space is taken, which knows neither disabled moves nor trapping.
    """
    space = follower.view.action_space
    for t, (state, recorded) in enumerate(zip(battle.states[:-1], battle.actions[:-1], strict=True)):
        legal = space.legal(state) if legal_actions is None else legal_actions[t]
        yield follower.follow(state, legal, None if recorded == MISSING_ACTION else space.from_recorded(recorded))


def action_name(action: int, state: BattleState) -> str:
    """What an action does in this state, by display names."""
    if FIRST_SWITCH <= action < FIRST_TERA:
        pokemon, place = [p.name for p in state.switches], action - FIRST_SWITCH
        return f"switch to {_display(pokemon[place])}" if place < len(pokemon) else f"switch {place + 1}"
    moves, place = [move.name for move in state.player_active_pokemon.known_moves], action % FIRST_TERA
    name = _display(moves[place]) if place < len(moves) else f"move {place + 1}"
    return f"{name}, terastallised" if action >= FIRST_TERA else name


def on_field(state: BattleState) -> dict[str, Any]:
    """What `Shown` has of the two sides in this state, by its names."""
    return {
        "player": _active(state.player_active_pokemon),
        "opponent": _active(state.opponent_active_pokemon),
        "bench": len(state.switches),
        "opponents_remaining": state.opponents_remaining,
        "forced_switch": state.forced_switch,
    }


def _active(pokemon: PokemonState) -> Active:
    status = "" if pokemon.status == "nostatus" else _display(pokemon.status)
    return Active(name=_display(pokemon.name), hp=pokemon.hp_pct, status=status)


def _display(word: str) -> str:
    return phrase(word, "natural")


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[tuple[Any, ...]]]:
    """What the module is called with, while the block lasts."""
    calls: list[tuple[Any, ...]] = []
    handle = module.register_forward_hook(lambda _module, inputs, _output: calls.append(inputs))
    try:
        yield calls
    finally:
        handle.remove()


@contextmanager
def _without_cache(encoder: Any) -> Iterator[None]:
    cache, encoder.reader.cache = encoder.reader.cache, None
    try:
        yield
    finally:
        encoder.reader.cache = cache
