"""MaskablePPO of sb3-contrib learns against a player for a minute or two, and the battles that it wins are counted.

pip install 'gemma-metamon[envs]' sb3-contrib; python examples/train_maskable_ppo.py
"""

import argparse

import gymnasium
from gymnasium.wrappers import FilterObservation, TransformReward
from sb3_contrib import MaskablePPO
from stable_baselines3.common.env_util import make_vec_env

import gemma_metamon.envs  # noqa: F401 registers gemma_metamon/Battle-v0
from gemma_metamon.intervals import wilson_interval


def make_env(opponent: str) -> gymnasium.Env:
    """One side of gen1ou battles, by the numbers of a turn alone; a win is worth about 1."""
    env = gymnasium.make("gemma_metamon/Battle-v0", battle_format="gen1ou", opponent=opponent)
    return TransformReward(FilterObservation(env, ["numbers"]), lambda reward: reward / 100)


def print_win_rate(when: str, model: MaskablePPO, opponent: str, battles: int) -> None:
    """Of battles that are not trained on, the same before and after; actions are drawn."""
    env, won = make_env(opponent), 0
    for battle in range(battles):
        shown, info = env.reset(seed=12345 if battle == 0 else None)
        while "is_success" not in info:
            action, _ = model.predict(shown, action_masks=info["action_mask"].astype(bool))
            shown, _, _, _, info = env.step(action)
        won += info["is_success"]
    env.close()
    low, high = wilson_interval(won, battles)
    print(f"{when}: {won} of {battles} battles won against {opponent} ({low:.0%} to {high:.0%})", flush=True)


def main() -> None:
    """Counts, trains, and counts again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--opponent", default="RandomPlayer")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--battles", type=int, default=100, help="counted before training and after it")
    args = parser.parse_args()
    training = make_vec_env(lambda: make_env(args.opponent), n_envs=4, seed=0)
    model = MaskablePPO("MultiInputPolicy", training, n_steps=256, batch_size=256, gamma=0.95, seed=0, device="cpu")
    print_win_rate("before", model, args.opponent, args.battles)
    model.learn(args.steps)
    training.close()
    print_win_rate("after", model, args.opponent, args.battles)


if __name__ == "__main__":
    main()
