"""The only module that touches poke-env's private names, or puts a function of ours in place of one of its methods.

poke-env offers no public way to hear what a connection hears, to learn that a battle has ended, or to look over a
player's choices. Each `intercept_...` function here replaces one method of one player. The replacement is called with
the method's own argument and with the method as it was before, which it may call. Of several replacements of the same
method, the last one is called first.
"""

import asyncio
import importlib.metadata
import inspect
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

from poke_env.battle import AbstractBattle, Battle
from poke_env.player import Player
from poke_env.ps_client import PSClient

from gemma_metamon.errors import MissingDependencyError

FITTING = ">=0.16,<0.17"
"""The versions of poke-env that this module was tested with, as in pyproject.toml."""

ReceiveMessage = Callable[[str], Awaitable[None]]
ReceiveBattleMessages = Callable[[list[list[str]]], Awaitable[None]]
Choose = Callable[[AbstractBattle], Any]
FinishBattle = Callable[[AbstractBattle], None]


def intercept_messages(player: Player, handle: Callable[[str, ReceiveMessage], Awaitable[None]]) -> Callable[[], None]:
    """Each message that the player's connection hears goes to `handle`, as the server sent it.

    Returns:
        A function that puts poke-env's own method back.
    """
    client = player.ps_client
    receive = client._handle_message

    async def handle_message(message: str) -> None:
        await handle(message, receive)

    def restore() -> None:
        client._handle_message = receive  # type: ignore[method-assign]

    client._handle_message = handle_message  # type: ignore[method-assign]
    return restore


def intercept_battle_messages(
    player: Player, handle: Callable[[list[list[str]], ReceiveBattleMessages], Awaitable[None]]
) -> None:
    """Messages of battles go to `handle`: [[">battle-gen1ou-12"], ["", "turn", "2"], ...], in the order they come."""
    receive = player.ps_client._on_battle_message

    async def on_battle_message(split_messages: list[list[str]]) -> None:
        await handle(split_messages, receive)

    player.ps_client._on_battle_message = on_battle_message


def intercept_choices(player: Player, choose: Callable[[AbstractBattle, Choose], Any]) -> None:
    """`choose` makes the player's choices: poke-env's orders, or awaitables of them."""
    inner: Choose = player.choose_move
    player.choose_move = lambda battle: choose(battle, inner)  # type: ignore[method-assign]


def intercept_leads(player: Player, choose: Callable[[AbstractBattle, Choose], Any]) -> None:
    """`choose` makes the player's choices at team preview: "/team 123456", or awaitables of it."""
    inner: Choose = player.teampreview
    player.teampreview = lambda battle: choose(battle, inner)  # type: ignore[method-assign]


def intercept_battle_end(player: Player, finish: Callable[[AbstractBattle, FinishBattle], None]) -> None:
    """`finish` is called when a battle of the player's has ended, before poke-env counts it as done."""
    inner: FinishBattle = player._battle_finished_callback
    player._battle_finished_callback = lambda battle: finish(battle, inner)  # type: ignore[method-assign]


def end_battle(player: Player, battle: AbstractBattle) -> None:
    """Tells a player without a connection that a battle has ended, as poke-env tells one with a connection."""
    callback: FinishBattle = player._battle_finished_callback
    callback(battle)


def messages_read(battle: AbstractBattle) -> list[list[str]]:
    """The messages that the battle has parsed so far, each split at "|". The battle's own list: not to be changed.

    Without those before `forget_messages`.
    """
    messages: list[list[str]] = battle._replay_data
    return messages


def forget_messages(battle: AbstractBattle) -> None:
    """The battle keeps no message that it has parsed so far; poke-env itself wants them for replays alone."""
    battle._replay_data.clear()


def freeze_battle(battle: AbstractBattle) -> bytes:
    """The battle as it stands, for `thaw_battle`; without what others have hung on it, as live_battle does."""
    kept = {name: vars(battle).pop(name) for name in [*vars(battle)]}  # poke-env's own are in slots
    try:
        return pickle.dumps(battle, pickle.HIGHEST_PROTOCOL)
    finally:
        vars(battle).update(kept)


def thaw_battle(frozen: bytes, battle_tag: str) -> Battle:
    """The battle of `freeze_battle`, which goes on by itself under this tag. Takes less time than to read it anew."""
    battle: Battle = pickle.loads(frozen)
    battle._battle_tag = battle_tag
    return battle


def start_listening(player: Player) -> None:
    """Connects a player that was made without a connection; whoever intercepts its messages before hears them all."""
    client: Any = player.ps_client
    if not hasattr(client, "_listening_coroutine"):
        client._listening_coroutine = asyncio.run_coroutine_threadsafe(client.listen(), client.loop)


def is_listening(player: Player) -> bool:
    """Whether the player connects to its server, or is connected."""
    listening: Any = getattr(player.ps_client, "_listening_coroutine", None)
    return listening is not None and not listening.done()


async def close_connection(player: Player) -> None:
    """Ends the player's connection, also where it is still being made."""
    client = player.ps_client
    if not is_listening(player):
        return
    if hasattr(client, "websocket"):
        await client.stop_listening()  # type: ignore[no-untyped-call]
    else:
        client._listening_coroutine.cancel()


def check_poke_env() -> None:
    """Raises MissingDependencyError where the installed poke-env lacks something that this module uses."""
    lacking = [
        f"{owner.__name__}.{name}({', '.join(parameters)})"
        for owner, name, parameters in (
            (PSClient, "_handle_message", ["message"]),
            (PSClient, "listen", []),
            (PSClient, "stop_listening", []),
            (Player, "choose_move", ["battle"]),
            (Player, "teampreview", ["battle"]),
            (Player, "_battle_finished_callback", ["battle"]),
        )
        if not _takes(getattr(owner, name, None), ["self", *parameters])
    ]
    lacking += [
        f"{owner.__name__}.{name}"
        for owner, name in (
            (PSClient, "_on_battle_message"),
            (PSClient, "_listening_coroutine"),
            (AbstractBattle, "_replay_data"),
            (AbstractBattle, "_battle_tag"),
        )
        if name not in owner.__init__.__code__.co_names  # which sets it
    ]
    if lacking:
        raise MissingDependencyError(
            f"poke-env {importlib.metadata.version('poke-env')} lacks {', '.join(lacking)}, without which no battle "
            f"can be followed; pip install 'poke-env{FITTING}'"
        )


def _takes(method: Any, parameters: list[str]) -> bool:
    return callable(method) and list(inspect.signature(method).parameters) == parameters
