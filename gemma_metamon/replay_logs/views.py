"""One side's view of a battle, told from a log without that player's requests.

poke-env's battle is fed with the messages as that side would have had them, and at each ask with a request made from
what the log tells: so the states are derived as those of a live battle are, by a `LiveBattle`. The side's own team is
known from the beginning as far as the whole log reveals it; its opponent only as it had been revealed by then.
"""

from collections import Counter
from typing import Any

from gemma_metamon.battle.replays import MISSING_ACTION, RecordedBattle
from gemma_metamon.battle.state import BattleState
from gemma_metamon.replay_logs.asks import MOVE, REVIVE, SWITCH, Ask
from gemma_metamon.replay_logs.choices import Choice, read_choice
from gemma_metamon.replay_logs.feeding import as_opponent_sees, end, feed, new_battle, state_now
from gemma_metamon.replay_logs.knowledge import Member, Team
from gemma_metamon.replay_logs.lines import other
from gemma_metamon.replay_logs.numbering import action_of
from gemma_metamon.replay_logs.server_logs import as_sent, read_choices
from gemma_metamon.replay_logs.sources import ReplayLog
from gemma_metamon.showdown.live.battle import LiveBattle

_TERA_GEN = 9
_STRUGGLE_TOLD_UNTIL = 4
_ABILITY_REQUESTED_FROM = 7


def told_view(
    log: ReplayLog, side: str, asks: list[Ask], teams: dict[str, Team], missing: Counter[str]
) -> RecordedBattle | None:
    """One side's view of a battle: its states and actions. None where it was never asked for anything.

    Args:
        log: the whole battle.
        side: p1 or p2.
        asks: when somebody was asked for a choice, in order, of both sides.
        teams: of both sides, as the whole log tells them.
        missing: counts by kind the choices that the log does not tell; added to.
    """
    view = _View(log, side, teams)
    states: list[BattleState] = []
    actions: list[int] = []
    own = [ask.at for ask in asks if side in ask.of]
    sent = read_choices(log.beside)[side]
    if len(own) - len(sent) not in (0, 1):  # of a battle that was given up the last choice may be missing
        sent = ()
    for ask in asks:
        view.advance(ask.at)
        asked = ask.of.get(side)
        stop = next((at for at in own if at > ask.at), len(log.lines))
        choice = read_choice(log.lines, ask.at, stop, side, asked, log.gen) if asked else Choice()
        if asked and len(states) < len(sent):
            choice = as_sent(sent[len(states)], choice)
        view.request(ask, asked, locked=choice.locked)
        if asked:
            states.append(state_now(view.live))
            action, why = action_of(choice, view.battle, key=view.key_of(choice))
            actions.append(action)
            if action == MISSING_ACTION:
                missing[why] += 1
    if not states:
        return None
    view.advance(len(log.lines))
    end(view.battle, log.winner)
    states.append(state_now(view.live))
    return RecordedBattle(tuple(states), (*actions, MISSING_ACTION))


class _View:
    def __init__(self, log: ReplayLog, side: str, teams: dict[str, Team]) -> None:
        self._log, self._side = log, side
        self._team, self._theirs = teams[side], teams[other(side)]
        self._fed = 0
        self._shared_hp = log.shared_hp
        self._tera_allowed = log.gen == _TERA_GEN and not any("Terastal Clause" in line.arg(0) for line in log.lines)
        self._details = {key: member.details for key, member in self._team.members.items()}
        self.battle = new_battle(log, side)
        self.live = LiveBattle(self.battle)
        if any(line.kind == "teampreview" for line in log.lines):  # else the team is known after it has come
            self.battle.parse_request(self._as_request({"teamPreview": True}, active="", reviving=False))

    def advance(self, until: int) -> None:
        """Feeds the messages before this place."""
        for at in range(self._fed, until):
            line = self._log.lines[at]
            if line.kind == "move" and line.side == self._side and line.arg(1) == "Struggle":
                self._tell_of_struggle(at)
            if self._is_theirs_alone(at):
                continue
            feed(self.battle, as_opponent_sees(self._log.text[at], other(self._side), self._shared_hp))
            if line.side == self._side and line.kind in ("switch", "drag", "replace", "detailschange"):
                self._details[self._team.on_field[at]] = self._own_details(at)
            elif line.side == self._side and line.kind == "-terastallize":
                self._details[self._team.on_field[at]] += f", tera:{line.arg(1)}"
        self._fed = max(self._fed, until)

    def _is_theirs_alone(self, at: int) -> bool:
        """In a log of the other player's, or of the server's: what this side was not told."""
        line, text = self._log.lines[at], self._log.text[at]
        if line.side != other(self._side):
            return False
        struggle = line.kind == "-activate" and line.arg(1) == "move: Struggle"
        silent = line.kind == "-ability" and text.endswith("|[silent]")
        return silent or (struggle and self._log.gen <= _STRUGGLE_TOLD_UNTIL)

    def _tell_of_struggle(self, at: int) -> None:
        """Until gen 4 its player alone is told that there is nothing else, before everybody sees it."""
        told = f"|-activate|{self._log.lines[at].arg(0)}|move: Struggle"
        if self._log.gen <= _STRUGGLE_TOLD_UNTIL and not self._log.lines[at].source and self._log.text[at - 1] != told:
            feed(self.battle, told)

    def request(self, ask: Ask, asked: str | None, *, locked: bool) -> None:
        active = self._team.on_field[ask.at - 1]
        kind: dict[str, Any]
        if asked == MOVE:
            kind = {"active": [{"moves": [], "canTerastallize": self._can_tera() and not locked}]}
        elif asked in (SWITCH, REVIVE):
            kind = {"forceSwitch": [True]}
        else:
            kind = {"wait": True}
        self.battle.parse_request(self._as_request(kind, active=active, reviving=asked == REVIVE))
        self._forget_called_moves(active)

    def _forget_called_moves(self, active: str) -> None:
        """poke-env takes what another move, or gen 1's thawing, made a Pokémon do for a move of its own."""
        for key in self._team.members:
            pokemon = self.battle.team[key]
            for move in set(pokemon.base_moves) - set(self._moves(key, active)):
                del pokemon.base_moves[move]

    def key_of(self, choice: Choice) -> str:
        """poke-env's key of whom the choice brought in, or back."""
        if choice.switch_at < 0:
            return ""
        line = self._log.lines[choice.switch_at]
        return line.arg(0) if line.kind == "-heal" else self._team.on_field[choice.switch_at]

    def _can_tera(self) -> bool:
        return self._tera_allowed and not self.battle.used_tera

    def _own_details(self, at: int) -> str:
        line, key = self._log.lines[at], self._team.on_field[at]
        disguised = self._team.shown[at] != key
        return self._details.get(key, "") if disguised else line.arg(1)

    def _as_request(self, kind: dict[str, Any], *, active: str, reviving: bool) -> dict[str, Any]:
        pokemon = []
        for key, member in self._team.members.items():
            entry = {
                "ident": key,
                "details": self._details[key],
                "condition": self._condition(key, active),
                "active": key == active,
                "moves": self._moves(key, active),
                "baseAbility": member.ability,
                "item": self._team.item_at(key, self._fed),
                "pokeball": "pokeball",
                "teraType": member.tera,
            }
            copied = self._copied(key, active)
            if copied and self._log.gen >= _ABILITY_REQUESTED_FROM:
                entry["ability"] = copied.ability
            pokemon.append({**entry, "reviving": True} if reviving and key == active else entry)
        return {**kind, "side": {"name": self._side, "id": self._side, "pokemon": pokemon}}

    def _condition(self, key: str, active: str) -> str:
        pokemon = self.battle.team.get(key)
        if pokemon is not None and pokemon.fainted:
            return "0 fnt"
        status = pokemon.status.name.lower() if pokemon is not None and pokemon.status is not None else ""
        if key != active:
            on_return = self._team.condition_on_return(key, self._fed, status)
            if on_return is not None:
                return on_return
        if pokemon is None or not pokemon.max_hp:
            return "100/100"
        return f"{pokemon.current_hp}/{pokemon.max_hp} {status}".strip()

    def _moves(self, key: str, active: str) -> list[str]:
        copied = self._copied(key, active)
        if copied is None:
            return self._team.members[key].moves
        return list(dict.fromkeys([*copied.moves, *self._team.copied_moves.get(copied.ident, [])]))

    def _copied(self, key: str, active: str) -> Member | None:
        """Whom the one on the field has become: its player knows the other's moves and ability."""
        pokemon = self.battle.team.get(key)
        if key != active or pokemon is None or not pokemon.transformed:
            return None
        return self._theirs.members.get(self._team.copies[self._fed - 1])
