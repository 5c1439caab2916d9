"""The one door by which the choices of a connected player go out: legal, by their place, none that was refused.

poke-env asks a player whose choice was refused again, and a player that would have the same again has it sent again, a
thousand times a turn. Here it gets to ask once more, and then another legal choice is made for it.
"""

from poke_env.battle import AbstractBattle, Battle
from poke_env.player import BattleOrder, Player

from gemma_metamon.showdown.live.battle import LiveBattle, live_battle
from gemma_metamon.showdown.live.deciding import Answers, decide, decide_lead, is_refusal
from gemma_metamon.showdown.live.poke_env_hooks import (
    Choose,
    FinishBattle,
    ReceiveBattleMessages,
    intercept_battle_end,
    intercept_battle_messages,
    intercept_choices,
    intercept_leads,
)
from gemma_metamon.showdown.live.recording import Recorder


def open_door(player: Player) -> "Door":
    """The player's door; made at the first call, and what wraps the player's choices after that is outside it.

    A meter that is attached to the player calls this first, and so sees what is really sent.
    """
    # kept by the player, so that both go together: a door holds its player's methods
    door: Door | None = vars(player).get("_door")
    if door is None:
        door = vars(player)["_door"] = Door(player)
    return door


def give_up(player: Player, battle_tag: str, why: str) -> None:
    """Notes that poke-env cannot follow this battle of the player's."""
    vars(player).setdefault("_given_up", {})[battle_tag] = why


def given_up(player: Player, battle_tag: str) -> str | None:
    """Why poke-env could not follow this battle of the player's, so that it was given up; None of all others."""
    noted: dict[str, str] = vars(player).get("_given_up", {})
    return noted.get(battle_tag)


class Door:
    """Stands between a player's `choose_move` and `teampreview` and its connection. Made by `open_door`.

    `failure` is what the player raised last in place of a choice, and is raised on where the choice is awaited.
    Raises ServerError, where the choice is awaited, once the server has refused all that can be sent.
    """

    def __init__(self, player: Player) -> None:
        self.failure: Exception | None = None
        self._player = player
        self._recorder: Recorder | None = None
        self._battles: dict[str, Answers] = {}
        intercept_choices(player, self._choose_move)
        intercept_leads(player, self._choose_lead)
        intercept_battle_messages(player, self._on_battle_messages)
        # now and then poke-env sends the server's own choice after a refusal; here that is the last resort
        player.DEFAULT_CHOICE_CHANCE = 0.0

    def record(self, recorder: Recorder) -> None:
        """From now on the recorder is told of the player's battles. One recorder per player."""
        self._recorder = recorder

        def note_end(battle: AbstractBattle, finish: FinishBattle) -> None:
            try:
                recorder.note_end(live_battle(battle), followed=given_up(self._player, battle.battle_tag) is None)
            finally:
                finish(battle)

        intercept_battle_end(self._player, note_end)

    async def _choose_move(self, battle: AbstractBattle, choose: Choose) -> BattleOrder:
        live = live_battle(battle)
        if self._recorder is None:
            return await self._decide(live, choose)
        return await self._recorder.follow(live, lambda: self._decide(live, choose))

    async def _decide(self, live: LiveBattle, choose: Choose) -> BattleOrder:
        answers = self._answers(live.battle)
        order = await decide(choose, live, answers.decisions, None)
        self._take(answers, order.message)
        return order

    async def _choose_lead(self, battle: AbstractBattle, choose: Choose) -> str:
        battle = live_battle(battle).battle
        answers = self._answers(battle)
        message = await decide_lead(choose, battle, answers.decisions, None)
        self._take(answers, message)
        return message

    def _take(self, answers: Answers, message: str) -> None:
        if answers.decisions.failure is not None:
            self.failure = answers.decisions.failure
            raise self.failure
        answers.note(message)

    def _answers(self, battle: Battle) -> Answers:
        answers = self._battles.get(battle.battle_tag)
        if answers is None:
            answers = self._battles[battle.battle_tag] = Answers(battle.battle_tag)
        answers.begin(battle.last_request.get("rqid"))
        return answers

    async def _on_battle_messages(self, split_messages: list[list[str]], receive: ReceiveBattleMessages) -> None:
        tag = split_messages[0][0].removeprefix(">")
        passed_on = []
        for message in split_messages:
            if message[1:2] == ["error"]:
                if not is_refusal(message[2]):
                    continue  # poke-env would have the choice made again, though nobody waits for one
                if tag in self._battles:
                    self._battles[tag].refuse()
            passed_on.append(message)
        await receive(passed_on)
        if any(message[1:2] in (["win"], ["tie"], ["deinit"]) for message in split_messages):
            self._battles.pop(tag, None)
