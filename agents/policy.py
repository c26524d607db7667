"""Trained policies: what they see, how they act, and how they are kept (safetensors and JSON).

A policy does not read raw observations but a :class:`PolicyView` of them: the judge's values as
logits, how they changed over the last centuries, and how far the examinee is from them. It answers
with nineteen pushes, one a dimension, which are spread over the training pairs. Neither depends on
the number of pairs or on the kind of models behind an environment, so a policy trained on simulated
histories plays on language models as it is. It runs on NumPy alone.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from progressgym_env.agents.base import Arrays, BaseAgent, Observation
from progressgym_env.arguments import check_integer
from progressgym_env.errors import PolicyError
from progressgym_env.files import write_bytes, write_json
from progressgym_env.values.dimensions import N_DIMENSIONS
from progressgym_env.values.logits import log_odds, pair_directions
from progressgym_env.values.questions import QuestionSet, load_questions
from progressgym_env.wrappers.value_action import spread
from progressgym_env.wrappers.value_history import pushed, started

__all__ = ["FORMAT_VERSION", "POLICY_FILE", "Policy", "PolicyAgent", "PolicyView", "PolicyWarning"]

FORMAT_VERSION = 1
POLICY_FILE, WEIGHTS_FILE = "policy.json", "policy.safetensors"
_Function = Callable[[Any], Any]
_ACTIVATIONS: dict[str, _Function] = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}
_SQUASHES: dict[str, _Function] = {"tanh": np.tanh, "clip": lambda x: np.clip(x, -1.0, 1.0)}

READS = ("century", "judge_values", "examinee_values")
"""What of an observation a policy sees."""

Floats = NDArray[np.float32]


class PolicyWarning(UserWarning):
    """A policy plays something that it was not trained for, as well as it can."""


@dataclass(frozen=True)
class PolicyView:
    """Observations as a policy sees them: ``n_features`` numbers of about the size of 1.

    Attributes:
        length: embeddings of the judge remembered, the present one included, ≥ 2.
        n_centuries: length of the histories, for how far an episode has come.
    """

    length: int = 4
    n_centuries: int = 9

    def __post_init__(self) -> None:
        check_integer("length", self.length, 2)
        check_integer("n_centuries", self.n_centuries, 3)

    @property
    def n_features(self) -> int:
        """Judge, its differences, the examinee's gap and its place; time, and what is known."""
        return N_DIMENSIONS * (self.length + 2) + self.length

    def started(self, observation: Observation) -> Floats:
        """Histories, (n, length, 19) in logits, of episodes that begin with a batch.

        The examinee starts as the people of the first century, so these are the first entry.
        """
        first = log_odds(observation["examinee_values"]).astype(np.float32)
        return self.pushed(started(first, self.length), observation)

    def pushed(self, history: Floats, observation: Observation) -> Floats:
        """New histories with the judge of a batch of observations as the newest entry."""
        return pushed(history, log_odds(observation["judge_values"]))

    def features(self, history: Floats, observation: Observation) -> Floats:
        """(n, n_features) float32: what the policy sees of a batch, whose judges were pushed."""
        n = len(history)
        examinee = log_odds(observation["examinee_values"]).astype(np.float32)
        century = np.asarray(observation["century"], dtype=np.float32)
        seen = np.empty((n, self.n_features), dtype=np.float32)
        parts = seen[:, : -self.length].reshape(n, self.length + 2, N_DIMENSIONS)
        np.multiply(history[:, -1], 0.5, out=parts[:, 0])
        np.subtract(history[:, 1:], history[:, :-1], out=parts[:, 1 : self.length])
        np.subtract(history[:, -1], examinee, out=parts[:, self.length])
        np.multiply(examinee, 0.5, out=parts[:, self.length + 1])
        seen[:, -self.length] = century / np.float32(self.n_centuries - 1)
        # Which differences are of centuries, and not of a start that was repeated.
        known = century[:, None] >= np.arange(2, self.length + 1, dtype=np.float32)
        seen[:, 1 - self.length :] = known
        return seen


@dataclass(frozen=True, eq=False)
class Policy:
    """A multilayer perceptron from a view to the mean of nineteen pushes.

    Attributes:
        challenge: what it was trained for.
        view: what it sees.
        weights: matrices (n_out, n_in) and biases (n_out,) by turns, float32, first layer first.
        activation: ``"tanh"`` or ``"relu"``, between layers.
        squash: how the last layer comes into [-1, 1]: ``"clip"`` or ``"tanh"``.
        training: how it came to be, for readers.
    """

    challenge: str
    view: PolicyView
    weights: tuple[Floats, ...]
    activation: str
    squash: str
    training: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, known in (("activation", _ACTIVATIONS), ("squash", _SQUASHES)):
            if getattr(self, name) not in known:
                raise PolicyError(
                    f"{name} {getattr(self, name)!r} is none of {', '.join(known)}; the policy "
                    "was made by another version; train it anew"
                )
        shapes = [array.shape for array in self.weights]
        sizes = [self.view.n_features, *(s[0] for s in shapes[::2])]
        layers = [((n_out, n_in), (n_out,)) for n_in, n_out in pairwise(sizes)]
        wanted = [shape for layer in layers for shape in layer]
        if not shapes or shapes != wanted or sizes[-1] != N_DIMENSIONS:
            raise PolicyError(
                f"the policy has layers of shapes {shapes}; its view has {self.view.n_features} "
                f"features and its action {N_DIMENSIONS} pushes: it was trained for another "
                "observation or action space; train it anew"
            )

    def pushes(self, features: Floats) -> Floats:
        """(n, 19) pushes in [-1, 1] for (n, n_features)."""
        hidden = np.asarray(features, dtype=np.float32)
        activate, last = _ACTIVATIONS[self.activation], len(self.weights) - 2
        for index in range(0, len(self.weights), 2):
            hidden = hidden @ self.weights[index].T + self.weights[index + 1]
            if index < last:
                hidden = activate(hidden)
        pushes: Floats = _SQUASHES[self.squash](hidden)
        return pushes

    def check_plays(
        self, challenge: str, n_centuries: int, steps_ahead: int = 1, *, name: str = "policy"
    ) -> None:
        """Check that the policy was trained for what it is to play; warn if for other steps ahead.

        Args:
            challenge: what is played.
            n_centuries: length of the histories that it is played on.
            steps_ahead: as in Predict.
            name: of the policy, for messages.

        Raises:
            PolicyError: it was trained for another challenge, or on shorter histories.
        """
        if challenge != self.challenge:
            raise PolicyError(
                f"{name} was trained for {self.challenge}, and {challenge} is played; play "
                f"{self.challenge}, or train one with: progressgym train --challenge {challenge}"
            )
        known = self.view.n_centuries
        if n_centuries > known:
            raise PolicyError(
                f"{name} was trained on histories of {known} centuries, and this one has "
                f"{n_centuries}: it would be told of times it never met; play histories of {known} "
                f"or fewer, or train one whose view has n_centuries={n_centuries}"
            )
        # Policies of another origin than this package's training may not say.
        trained = self.training.get("steps_ahead", steps_ahead)
        if challenge == "predict" and trained != steps_ahead:
            warnings.warn(
                f"{name} was trained with steps_ahead={trained} and plays with "
                f"steps_ahead={steps_ahead}; it may do worse than one trained for that",
                PolicyWarning,
                stacklevel=3,
            )

    def save(self, folder: Path) -> None:
        """Write ``policy.json`` and ``policy.safetensors`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"{i:02d}": np.ascontiguousarray(w) for i, w in enumerate(self.weights)}
        write_bytes(folder / WEIGHTS_FILE, save(arrays))
        header = {
            "format_version": FORMAT_VERSION,
            "challenge": self.challenge,
            "view": asdict(self.view),
            "activation": self.activation,
            "squash": self.squash,
            "training": dict(self.training),
        }
        write_json(folder / POLICY_FILE, header)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The policy in ``folder``.

        Raises:
            PolicyError: a file is missing or damaged, of another format version, or the weights
                do not fit the view.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / POLICY_FILE).read_text(encoding="utf-8"))
            arrays = load_file(folder / WEIGHTS_FILE)
        except (OSError, ValueError, SafetensorError) as error:
            raise PolicyError(
                f"{folder} holds no policy that can be read ({error}); give a folder with "
                f"{POLICY_FILE} and {WEIGHTS_FILE}, as `progressgym train` writes it"
            ) from error
        version = header.get("format_version") if isinstance(header, dict) else None
        if version != FORMAT_VERSION:
            raise PolicyError(
                f"{folder / POLICY_FILE} has format version {version!r}, and this package reads "
                f"{FORMAT_VERSION}; train the policy anew, or use the version that made it"
            )
        try:
            return cls(
                challenge=header["challenge"],
                view=PolicyView(**header["view"]),
                weights=tuple(arrays[name] for name in sorted(arrays)),
                activation=header["activation"],
                squash=header["squash"],
                training=header["training"],
            )
        except (KeyError, TypeError) as error:
            raise PolicyError(f"{folder / POLICY_FILE} lacks or misnames {error}") from error


class PolicyAgent(BaseAgent):
    """Plays a trained policy: simulated or language models, one environment or many.

    Args:
        policy: the policy.
        questions: whose pairs are acted on; by default the project's own.
        name: for tables.
    """

    reads = READS

    def __init__(
        self, policy: Policy, questions: QuestionSet | None = None, *, name: str = "policy"
    ) -> None:
        self.policy, self.name = policy, name
        self._questions = questions or load_questions()

    @cached_property
    def _directions(self) -> Floats:
        return pair_directions(self._questions.pairs).astype(np.float32)

    def _initial_state(self, n_envs: int, n_pairs: int) -> Arrays:
        if n_pairs != len(self._questions.pairs):
            raise PolicyError(
                f"the observation has {n_pairs} pairs and the policy's questions "
                f"{len(self._questions.pairs)}; give PolicyAgent the questions that are played"
            )
        view = self.policy.view
        history = np.zeros((n_envs, view.length, N_DIMENSIONS), dtype=np.float32)
        return history, np.zeros(n_envs, dtype=bool)

    def _act(self, observation: Observation, state: Arrays) -> tuple[NDArray[Any], Arrays]:
        history, going = state
        view = self.policy.view
        fresh, older = view.started(observation), view.pushed(history, observation)
        history = np.where(going[:, None, None], older, fresh)
        pushes = self.policy.pushes(view.features(history, observation))
        return spread(pushes, self._directions), (history, np.ones_like(going))


def weights_of(layers: Sequence[tuple[Any, Any]]) -> tuple[Floats, ...]:
    """Matrices and biases of linear layers, given as pairs of arrays, as a policy keeps them."""
    return tuple(np.array(array, dtype=np.float32) for layer in layers for array in layer)
