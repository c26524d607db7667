"""Stable-Baselines3: its ``VecEnv`` over this package's vector environments.

SB3 takes no Gymnasium vector environment. :class:`ProgressVecEnv` is the bridge. SB3 keeps an
observation until after the next step, and only then puts it into its buffer; so what the bridge
hands out is never written again. :func:`policy_vec_env` puts together what a policy wants: nineteen
pushes as the action, and a flat view of values, their past and the examinee's gap as the
observation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from progressgym_env import CHALLENGES
from progressgym_env.agents.policy import PolicyView
from progressgym_env.arguments import check_choice
from progressgym_env.envs.vector import ProgressVectorEnv
from progressgym_env.errors import InvalidArgumentError, MissingPackageError
from progressgym_env.histories.simulated import SimulatedHistories
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.logits import pair_directions
from progressgym_env.wrappers.value_action import spread

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn
except ModuleNotFoundError as error:
    raise MissingPackageError(
        "the bridge to Stable-Baselines3 needs the package stable-baselines3, which is not "
        "installed; install it with: pip install 'progressgym-env[rl]'"
    ) from error

__all__ = ["ProgressVecEnv", "policy_vec_env"]


class ProgressVecEnv(VecEnv):
    """A vector environment of this package as SB3 wants it.

    Most of what an episode pays depends on its history and not on the agent. So rewards can be
    given relative to what holding would have been paid in the same episode, chance included: a
    baseline that no action changes, and that takes away most of the variance. Whatever the reward,
    ``info["episode"]["r"]`` is the official score.

    Args:
        envs: made by ``gymnasium.make_vec`` with ``autoreset_mode="SameStep"``. With
            ``copy=False`` a view saves a copy; without one it makes no difference.
        view: what the policy sees; None hands out the ``Dict`` observation as it is, with an
            action a pair.
        relative: whether rewards are less what holding is paid.
        reward_scale: rewards are multiplied by it.

    Raises:
        InvalidArgumentError: ``envs`` is another kind of environment, or has another mode.
    """

    def __init__(
        self,
        envs: gym.vector.VectorEnv[Any, Any, Any],
        view: PolicyView | None = None,
        *,
        relative: bool = False,
        reward_scale: float = 1.0,
    ) -> None:
        if not isinstance(envs, ProgressVectorEnv):
            raise InvalidArgumentError(
                f"envs={envs} must be a ProgressVectorEnv without wrappers; make it with "
                "gymnasium.make_vec('ProgressGym/...', num_envs=N, history='simulated', "
                "autoreset_mode='SameStep')"
            )
        inner = envs
        if inner.metadata["autoreset_mode"] != AutoresetMode.SAME_STEP:
            raise InvalidArgumentError(
                f"autoreset_mode is {inner.metadata['autoreset_mode'].value!r}, and SB3 expects "
                "the next episode's observation with the last one's end; make the environment "
                "with autoreset_mode='SameStep'"
            )
        self.envs: ProgressVectorEnv = inner
        self.view, self._scale, self._relative = view, reward_scale, relative
        self._held = np.zeros((inner.num_envs, inner.n_steps))
        self._n_done = np.zeros(inner.num_envs, dtype=np.intp)
        if view is None:
            observation: spaces.Space[Any] = inner.single_observation_space
            action: spaces.Space[Any] = inner.single_action_space
        else:
            observation = spaces.Box(-np.inf, np.inf, (view.n_features,), np.float32)
            action = spaces.Box(-1.0, 1.0, (N_DIMENSIONS,), np.float32)
        super().__init__(inner.num_envs, observation, action)
        self._directions = pair_directions(inner.questions.pairs).astype(np.float32)
        self._proposals = np.empty((self.num_envs, len(self._directions)), dtype=np.float32)
        self._actions: NDArray[Any] = np.zeros((self.num_envs, *(action.shape or ())))
        self._history = np.zeros(0, dtype=np.float32)

    def reset(self) -> Any:
        """Start all episodes; ``seed`` and ``set_options`` say beforehand which.

        Raises:
            InvalidArgumentError: the rows' options differ in more than their ``"history_seed"``,
                or have no legal value.
            UnknownNameError: there is no such option.
        """
        seeds = self._seeds if any(seed is not None for seed in self._seeds) else None
        observation, _ = self.envs.reset(seed=seeds, options=_merged(self._options, self.num_envs))
        self._reset_seeds()
        self._reset_options()
        return self._seen(observation, np.ones(self.num_envs, dtype=bool))

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step; episodes that ended tell their last observation and their score."""
        actions = self._actions
        if self.view is not None:
            actions = spread(actions, self._directions, out=self._proposals)
        observation, rewards, dones, _, infos = self.envs.step(actions)
        rewards = rewards - self._held[np.arange(self.num_envs), self._n_done]
        self._n_done += 1
        told: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if dones.any():
            last, scores = self._last_seen(), infos["final_info"]["score"]
            for row in np.flatnonzero(dones):
                told[row] = {
                    "terminal_observation": _row_of(last, int(row)),
                    "episode": {"r": float(scores[row]), "l": self.envs.n_steps, "t": 0.0},
                }
        seen = self._seen(observation, dones)
        return seen, (rewards * self._scale).astype(np.float32), dones, told

    def close(self) -> None:
        """Close the vector environment."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of the vector environment, once a row."""
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not supported: rows have no attributes of their own."""
        raise InvalidArgumentError(
            f"set_attr({attr_name!r}): rows of a batched environment have no attributes of their "
            "own; make it with other arguments"
        )

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Not supported: rows have no methods of their own."""
        raise InvalidArgumentError(
            f"env_method({method_name!r}): rows of a batched environment have no methods of their "
            "own; call the vector environment's, envs"
        )

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """No row is wrapped; episodes are told as SB3's ``Monitor`` tells them."""
        is_monitor = wrapper_class.__name__ == "Monitor"
        return [is_monitor for _ in self._get_indices(indices)]

    def _seen(self, observation: dict[str, NDArray[Any]], begins: NDArray[np.bool_]) -> Any:
        if begins.any():
            self._n_done[begins] = 0
            if self._relative:
                self._held[begins] = self.envs.hold_rewards()[begins]
        if self.view is None:
            if self.envs.copy:
                return observation
            # SB3 reads them once more after the step that overwrites the environment's own.
            return {key: array.copy() for key, array in observation.items()}
        if begins.all():
            self._history = self.view.started(observation)
        else:
            self._history = self.view.pushed(self._history, observation)
            if begins.any():
                fresh = {key: array[begins] for key, array in observation.items()}
                self._history[begins] = self.view.started(fresh)
        return self.view.features(self._history, observation)

    def _last_seen(self) -> Any:
        """Last observations of all rows, as the policy sees them."""
        last = self.envs.final_observation
        if self.view is None or last is None:
            return last
        return self.view.features(self.view.pushed(self._history, last), last)


def policy_vec_env(
    challenge: str,
    num_envs: int,
    history: str | SimulatedHistories = "simulated-train",
    *,
    view: PolicyView | None = None,
    relative: bool = False,
    reward_scale: float = 1.0,
    **arguments: Any,
) -> ProgressVecEnv:
    """What an SB3 policy wants, of one challenge: a flat view, nineteen pushes, a ``VecEnv``.

    Args:
        challenge: ``"follow"``, ``"predict"`` or ``"coevolve"``.
        num_envs: environments side by side.
        history: simulated histories, by name or as a source.
        view: what the policy sees; by default four centuries.
        relative: see :class:`ProgressVecEnv`.
        reward_scale: see :class:`ProgressVecEnv`.
        **arguments: of the challenge, such as ``steps_ahead``.

    Raises:
        UnknownNameError: there is no such challenge, history or argument.
    """
    check_choice("challenge", challenge, tuple(CHALLENGES))
    envs = gym.make_vec(
        CHALLENGES[challenge],
        num_envs=num_envs,
        history=history,
        autoreset_mode="SameStep",
        # What is said is not in the view; one sample is the least there is.
        dialogue_samples=1,
        copy=False,
        **arguments,
    )
    inner = envs.unwrapped
    chosen = view or PolicyView(n_centuries=inner.n_centuries)  # type: ignore[attr-defined]
    return ProgressVecEnv(envs, chosen, relative=relative, reward_scale=reward_scale)


def _merged(options: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    """What SB3 keeps once a row, as the options of one vector environment.

    Raises:
        InvalidArgumentError: they cannot be merged.
    """
    if len(options) != n:
        raise InvalidArgumentError(
            f"set_options got {len(options)} options for {n} environments; give one dictionary for "
            "all, or one a row"
        )
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in options for key in row):
        given = [row[key] for row in options if key in row]
        if key == "history_seed" and len(given) == n and all(np.ndim(seed) == 0 for seed in given):
            merged[key] = None if given == [None] * n else given
        elif key != "reset_mask" and len(given) == n and _all_equal(given):
            merged[key] = given[0]
        else:
            raise InvalidArgumentError(
                f"set_options: the rows' {key!r} cannot be merged ({len(given)} of {n} have one, "
                f"the first {given[0]!r}); SB3 resets all rows at once, so give every row the same "
                "options; only history_seed may differ, and there is no reset_mask"
            )
    return merged


def _all_equal(values: Sequence[Any]) -> bool:
    # Some are lists or arrays, with an entry a row.
    return all(np.array_equal(value, values[0]) for value in values)


def _row_of(batch: Any, row: int) -> Any:
    return {k: a[row] for k, a in batch.items()} if isinstance(batch, dict) else batch[row]
