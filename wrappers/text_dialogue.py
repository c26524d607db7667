"""Dialogue as strings, for agents that read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector.utils import read_from_shared_memory
from numpy.typing import NDArray

from progressgym_env.envs.dialogue import decode_dialogue
from progressgym_env.envs.progress import Action, Observation
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.wrappers._spaces import dict_space, require_entry

__all__ = ["MAX_PROMPT_LENGTH", "TextDialogue", "UnicodeText"]

MAX_PROMPT_LENGTH: int = 1024
"""Characters kept of every prompt."""

_N_CHARACTERS = sys.maxunicode + 1
_FIRST_SURROGATE, _N_SURROGATES = 0xD800, 0x800


class _Characters(Sequence[str]):
    """Every character, by its code point, without storing them."""

    def __len__(self) -> int:
        return _N_CHARACTERS

    def __getitem__(self, index: Any) -> Any:
        return chr(range(_N_CHARACTERS)[index])

    def __contains__(self, character: object) -> bool:
        return isinstance(character, str) and len(character) == 1


_CHARACTERS = _Characters()


class UnicodeText(spaces.Text):
    """Every string of at most ``max_length`` characters, of whatever characters.

    Gymnasium's ``Text`` takes what it allows as a list, in which all 1,114,112 characters would
    take seconds and hundreds of megabytes a space. This one computes them. Being a ``Text``, it can
    be batched, flattened and put into shared memory, which a space of another kind cannot; and
    what ``AsyncVectorEnv`` reads from there is up to date, which with ``Text`` it is not.

    Args:
        max_length: characters, ≥ 0.
        seed: seeds :meth:`sample`.
    """

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(max_length, min_length=0, charset="", seed=seed)

    def sample(self, mask: None = None, probability: None = None) -> str:  # type: ignore[override]
        """A string of random length and characters, surrogates (which are no text) left out.

        Raises:
            InvalidArgumentError: a mask or probabilities are given.
        """
        if mask is not None or probability is not None:
            raise InvalidArgumentError(
                "UnicodeText takes neither mask nor probability; use gymnasium.spaces.Text with "
                "the characters you want"
            )
        length = self.np_random.integers(self.max_length + 1)
        points = self.np_random.integers(_N_CHARACTERS - _N_SURROGATES, size=length)
        points[points >= _FIRST_SURROGATE] += _N_SURROGATES
        return "".join(map(chr, points))

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def character_index(self, char: str) -> np.int32:
        """The code point."""
        return np.int32(ord(char))

    @property
    def character_set(self) -> Any:
        """All characters."""
        return _CHARACTERS

    @property
    def character_list(self) -> Any:
        """All characters, by code point."""
        return _CHARACTERS

    @property
    def characters(self) -> Any:
        """All characters, by code point: a sequence, not a string of 4 MB."""
        return _CHARACTERS

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"


class _SharedTexts(Sequence[str]):
    """The strings in shared memory, as they are when asked for; a deep copy is a tuple of them."""

    def __init__(self, points: NDArray[np.int32]) -> None:
        self._points = points

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, index: Any) -> Any:
        points = self._points[index]
        return "".join(map(chr, points[points < _N_CHARACTERS].tolist()))

    def __deepcopy__(self, memo: object) -> tuple[str, ...]:
        return tuple(self)


@read_from_shared_memory.register(UnicodeText)
def _read_texts(space: UnicodeText, shared_memory: Any, n: int = 1) -> _SharedTexts:
    # Gymnasium's function for Text copies, once, before anything was written, and
    # AsyncVectorEnv, which expects a view, would show that copy for ever.
    points = np.frombuffer(shared_memory.get_obj(), dtype=np.int32)
    return _SharedTexts(points.reshape(n, space.max_length))


class TextDialogue(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Turns the bytes of ``dialogue`` into strings, and adds the questions they answer.

    | key | space | meaning |
    |---|---|---|
    | `dialogue` | `Tuple` of `UnicodeText(256)` | the replies, cut to 256 bytes |
    | `dialogue_prompts` | `Tuple` of `UnicodeText(1024)` | the questions, cut to 1,024 characters |

    Both have ``dialogue_samples`` strings. ``info["dialogue"]`` holds the replies uncut. To play
    several environments side by side, give ``wrappers=[TextDialogue]`` to ``gymnasium.make_vec``.

    Args:
        env: an environment whose observation is a ``Dict`` with ``dialogue``.
        prompts: whether to add ``dialogue_prompts``, which are taken from ``info``.

    Raises:
        InvalidArgumentError: the observation has no ``dialogue``, or it is no box of bytes.
    """

    def __init__(self, env: gym.Env[Observation, Action], prompts: bool = True) -> None:
        RecordConstructorArgs.__init__(self, prompts=prompts)
        super().__init__(env)
        entries = require_entry(env.observation_space, "dialogue", type(self).__name__)
        box = entries["dialogue"]
        if not isinstance(box, spaces.Box):
            raise InvalidArgumentError(f"'dialogue' is {box}, no box of bytes; it is text already")
        n_replies, width = box.shape
        # A character takes at least one byte, so no reply has more characters than bytes.
        entries["dialogue"] = _texts(n_replies, width)
        if prompts:
            entries["dialogue_prompts"] = _texts(n_replies, MAX_PROMPT_LENGTH)
        self.observation_space = dict_space(entries)
        self._prompts = prompts

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Reset, with the first dialogue as strings."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._read(observation, info), info

    def step(self, action: Action) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """Step, with the dialogue as strings."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._read(observation, info), reward, terminated, truncated, info

    def _read(self, observation: Observation, info: dict[str, Any]) -> Observation:
        read = {**observation, "dialogue": decode_dialogue(observation["dialogue"])}
        if self._prompts:
            asked = info["dialogue_prompts"]
            read["dialogue_prompts"] = tuple(prompt[:MAX_PROMPT_LENGTH] for prompt in asked)
        return read


def _texts(n_texts: int, max_length: int) -> spaces.Tuple[Any]:
    return spaces.Tuple([UnicodeText(max_length) for _ in range(n_texts)])
