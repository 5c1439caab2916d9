"""Battles as environments of Gymnasium and PettingZoo; importing this registers their ids with Gymnasium.

"gemma_metamon/Battle-v0" is one side of a battle against a player: `gymnasium.make` gives a `BattleEnv`,
`gymnasium.make_vec` a `VectorBattleEnv`, which plays many battles in one arena.
"""

from gemma_metamon.extras import require_extra

require_extra("envs", "gemma_metamon.envs")
require_extra("battle", "gemma_metamon.envs")

from gymnasium.envs.registration import register  # noqa: E402 what is missing is to be told in our words

register(
    id="gemma_metamon/Battle-v0",
    entry_point="gemma_metamon.envs.battle_env:BattleEnv",
    vector_entry_point="gemma_metamon.envs.vector_env:VectorBattleEnv",
    order_enforce=False,  # the environments themselves refuse a step before a reset
)
