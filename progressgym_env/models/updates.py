"""Updates: how a model is trained on a proposal. Importable without torch.

An update turns examples into a changed adapter; :func:`examples_from` turns a proposal into
examples. All of them train through trl and peft (see :mod:`.training` and :mod:`.rlhf`, loaded at
the first training).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from progressgym_env.errors import InvalidArgumentError, unknown_name
from progressgym_env.models.base import SMALL_BASE, PreferenceData, Update
from progressgym_env.values.forms import Prompt, question_prompts
from progressgym_env.values.questions import Pair

__all__ = [
    "SCHEDULES",
    "UPDATES",
    "BySize",
    "DPOSettings",
    "DPOUpdate",
    "RLHFSettings",
    "RLHFUpdate",
    "SFTSettings",
    "SFTUpdate",
    "TrainingExample",
    "TrainingUpdate",
    "examples_from",
    "resolve_update",
]

SCHEDULES = ("constant", "linear", "cosine")


def _check(name: str, value: Any, allowed: str, fits: Callable[[float], bool]) -> None:
    known = isinstance(value, int | float | np.integer | np.floating)
    # The comparison is False for NaN too.
    finite = known and not isinstance(value, bool) and abs(value) < math.inf
    if not finite or not fits(value):
        raise InvalidArgumentError(f"{name}={value!r}: must be {allowed}")


def _is_positive_int(value: float) -> bool:
    return isinstance(value, int) and value >= 1


@dataclass(frozen=True)
class BySize:
    """A learning rate that depends on the size of the base.

    Attributes:
        small: up to ``SMALL_BASE`` (50 million) parameters: tuned on the embedded models.
        large: above. The defaults are ten times the rates at which the original trains all
            parameters of its 8B and 70B models: adapters want about ten times as much (Schulman
            et al. 2025, "LoRA Without Regret"). They have not been tried on the real models.

    Raises:
        InvalidArgumentError: a rate is no number > 0.
    """

    small: float
    large: float

    def __post_init__(self) -> None:
        _check("small", self.small, "a number > 0", lambda x: x > 0)
        _check("large", self.large, "a number > 0", lambda x: x > 0)


@dataclass(frozen=True)
class TrainingExample:
    """One thing to learn, as plain texts; the chat template is applied in training.

    Attributes:
        prompt: what the user says.
        chosen: the reply to learn.
        rejected: the reply to unlearn, or None where there is none (imitation).
    """

    prompt: str
    chosen: str
    rejected: str | None


@dataclass(frozen=True, kw_only=True)
class SFTSettings:
    """Supervised fine-tuning with AdamW on the tokens of the reply, the end token included.

    Attributes:
        learning_rate: peak, > 0; or :class:`BySize`, one for small bases and one for large ones.
        batch_size: examples a step, ≥ 1.
        epochs: passes over the examples, ≥ 0, fractions allowed: round(epochs · n) examples are
            seen (at least one unless ``epochs`` is 0, which trains nothing), each whole pass in an
            order of its own, the last one cut short.
        weight_decay: AdamW's, ≥ 0.
        warmup: fraction of the steps over which the learning rate rises from 0, in [0, 1).
        max_grad_norm: gradients are clipped to this norm; 0 turns clipping off.
        schedule: what the learning rate does after the warm-up: ``"constant"``, ``"linear"`` or
            ``"cosine"`` (the latter two fall to 0).

    Raises:
        InvalidArgumentError: a setting is out of its range.
    """

    learning_rate: float | BySize = BySize(1e-3, 1.5e-4)
    batch_size: int = 16
    epochs: float = 1.0
    weight_decay: float = 0.0
    warmup: float = 0.0
    max_grad_norm: float = 1.0
    schedule: str = "linear"

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, BySize):
            _check("learning_rate", self.learning_rate, "a number > 0", lambda x: x > 0)
        _check("batch_size", self.batch_size, "a whole number ≥ 1", _is_positive_int)
        _check("epochs", self.epochs, "a number ≥ 0", lambda x: x >= 0)
        _check("weight_decay", self.weight_decay, "a number ≥ 0", lambda x: x >= 0)
        _check("warmup", self.warmup, "a number in [0, 1)", lambda x: 0 <= x < 1)
        _check("max_grad_norm", self.max_grad_norm, "a number ≥ 0", lambda x: x >= 0)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)

    def rate_for(self, n_parameters: int) -> float:
        """The peak learning rate for a base of so many parameters."""
        if not isinstance(self.learning_rate, BySize):
            return float(self.learning_rate)
        small = n_parameters <= SMALL_BASE
        return self.learning_rate.small if small else self.learning_rate.large


@dataclass(frozen=True, kw_only=True)
class DPOSettings(SFTSettings):
    """Direct preference optimisation; as :class:`SFTSettings`, and:

    Attributes:
        beta: how strongly the model is held to its reference, > 0; lower lets it go farther.

    At the embedded models' size a rate of 3e-3 now and then wrecks a model in one update of more
    than 400 examples; 2e-3 does not.
    """

    learning_rate: float | BySize = BySize(2e-3, 3e-6)
    beta: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("beta", self.beta, "a number > 0", lambda x: x > 0)


@dataclass(frozen=True, kw_only=True)
class RLHFSettings:
    """A reward model from preferences, then REINFORCE with leave-one-out baselines (RLOO).

    Attributes:
        reward: how the reward model is trained; ``beta`` is the factor of its log-ratio.
        policy: how the model is trained against it; ``batch_size`` counts prompts, ``epochs``
            passes over the prompts of the examples.
        generations: replies sampled to a prompt, ≥ 2.
        kl: weight of the penalty on the divergence from the model before the update, ≥ 0.
        temperature: of sampling, > 0.
        max_new_tokens: longest reply sampled, in tokens, ≥ 1; None: as long as the longest of
            the examples.

    Raises:
        InvalidArgumentError: a setting is out of its range.
    """

    reward: DPOSettings = field(
        default_factory=lambda: DPOSettings(learning_rate=BySize(2e-3, 4e-6), epochs=2.0)
    )
    policy: SFTSettings = field(
        default_factory=lambda: SFTSettings(learning_rate=BySize(3e-3, 1e-5), epochs=0.5)
    )
    generations: int = 4
    kl: float = 0.05
    temperature: float = 1.0
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        _check_settings(self.reward, DPOSettings)
        _check_settings(self.policy, SFTSettings)
        _check(
            "generations",
            self.generations,
            "a whole number ≥ 2",
            lambda x: _is_positive_int(x) and x > 1,
        )
        _check("kl", self.kl, "a number ≥ 0", lambda x: x >= 0)
        _check("temperature", self.temperature, "a number > 0", lambda x: x > 0)
        if self.max_new_tokens is not None:
            _check("max_new_tokens", self.max_new_tokens, "a whole number ≥ 1", _is_positive_int)


def _check_settings(settings: object, kind: type[SFTSettings]) -> None:
    if not isinstance(settings, kind):
        raise InvalidArgumentError(
            f"settings={settings!r}: must be {kind.__name__}, such as {kind.__name__}(epochs=2.0)"
        )


@runtime_checkable
class TrainingUpdate(Protocol):
    """An update that language models can carry out; write your own with these two members."""

    @property
    def name(self) -> str:
        """Short name for logs and run folders."""
        ...

    def train(
        self, model: Any, tokenizer: Any, examples: Sequence[TrainingExample], seed: int
    ) -> None:
        """Train the active adapter of ``model`` in place; the base weights stay as they are.

        Args:
            model: a ``peft.PeftModel`` whose active adapter is called "default".
            tokenizer: its tokenizer, with a chat template.
            examples: from :func:`examples_from`.
            seed: seeds everything random; the same seed gives the same weights, bit for bit on a
                CPU, up to rounding on a GPU.
        """
        ...


@dataclass(frozen=True)
class SFTUpdate:
    """Supervised fine-tuning on the preferred answers."""

    settings: SFTSettings = field(default_factory=SFTSettings)
    name: str = "sft"

    def __post_init__(self) -> None:
        _check_settings(self.settings, SFTSettings)

    def train(
        self, model: Any, tokenizer: Any, examples: Sequence[TrainingExample], seed: int
    ) -> None:
        """See :meth:`TrainingUpdate.train`."""
        from progressgym_env.models.training import train_sft

        train_sft(model, tokenizer, examples, self.settings, seed)


@dataclass(frozen=True)
class DPOUpdate:
    """Direct preference optimisation; the reference is the model before the update."""

    settings: DPOSettings = field(default_factory=DPOSettings)
    name: str = "dpo"

    def __post_init__(self) -> None:
        _check_settings(self.settings, DPOSettings)

    def train(
        self, model: Any, tokenizer: Any, examples: Sequence[TrainingExample], seed: int
    ) -> None:
        """See :meth:`TrainingUpdate.train`."""
        from progressgym_env.models.training import train_dpo

        train_dpo(model, tokenizer, examples, self.settings, seed)


@dataclass(frozen=True)
class RLHFUpdate:
    """Reinforcement learning from the proposal's preferences: a reward model, then RLOO."""

    settings: RLHFSettings = field(default_factory=RLHFSettings)
    name: str = "rlhf"

    def __post_init__(self) -> None:
        if not isinstance(self.settings, RLHFSettings):
            raise InvalidArgumentError(
                f"settings={self.settings!r}: must be RLHFSettings, such as RLHFSettings(kl=0.1)"
            )

    def train(
        self, model: Any, tokenizer: Any, examples: Sequence[TrainingExample], seed: int
    ) -> None:
        """See :meth:`TrainingUpdate.train`."""
        from progressgym_env.models.rlhf import train_rlhf

        train_rlhf(model, tokenizer, examples, self.settings, seed)


UPDATES: MappingProxyType[str, TrainingUpdate] = MappingProxyType(
    {update.name: update for update in (SFTUpdate(), DPOUpdate(), RLHFUpdate())}
)


def resolve_update(update: str | Update) -> TrainingUpdate:
    """The update called ``update``, or ``update`` itself if it is one.

    Raises:
        UnknownNameError: no update has that name.
        InvalidArgumentError: ``update`` is neither a name nor has ``name`` and ``train``, or it is
            a class instead of an object.
    """
    if isinstance(update, str):
        if update not in UPDATES:
            raise unknown_name("update", update, UPDATES)
        return UPDATES[update]
    if isinstance(update, type):
        raise InvalidArgumentError(
            f"update={update!r}: must be an object, not a class; make one: {update.__name__}()"
        )
    if not isinstance(update, TrainingUpdate):
        raise InvalidArgumentError(
            f"update={update!r}: must be one of {', '.join(sorted(UPDATES))}, "
            "or an object with 'name' and 'train'"
        )
    return update


def examples_from(data: PreferenceData) -> list[TrainingExample]:
    """One training example for every copy in ``data``, in random order.

    Each copy is put in a form and an order of the options, dealt out so that, for two-way
    and world-view pairs each, all (form, order) combinations are used equally often (counts differ
    by one at most) and the copies of one pair get different ones; which copy gets which is
    uniformly random. A world-view pair is asked with all four options shown.
    """
    rng = np.random.default_rng((data.seed, _EXAMPLES_STREAM))
    examples: list[TrainingExample] = []
    dealt = {view: int(rng.integers(_N_PROMPTS[view])) for view in (False, True)}
    for index in rng.permutation(len(data.pairs)):
        pair, copies = data.pairs[index], int(data.copies[index])
        view = pair.question.is_view
        for _ in range(abs(copies)):
            examples.append(_example(pair, copies > 0, _deal(pair, dealt[view])))
            dealt[view] += 1
    return [examples[index] for index in rng.permutation(len(examples))]


_EXAMPLES_STREAM = 1  # Keeps these draws apart from others made with the same seed.
_N_PROMPTS = {False: 6, True: 8}  # Forms times orders, by whether a question is a world view.


def _deal(pair: Pair, turn: int) -> Prompt:
    """The prompt whose turn it is, in a cycle that changes form and order at nearly every step.

    Any run of the cycle is spread over forms and orders, so the few copies of a pair are too.
    """
    prompts = question_prompts(pair.question)
    n_orders = len(pair.question.options)
    n_forms = len(prompts) // n_orders
    # Two forms and four orders share a factor: shift the forms by one once the orders are through.
    shift = turn // n_orders if n_orders % n_forms == 0 else 0
    return prompts[turn % n_orders * n_forms + (turn + shift) % n_forms]


def _example(pair: Pair, first_preferred: bool, prompt: Prompt) -> TrainingExample:
    first, second = (prompt.answers[prompt.credits.index(o)] for o in (pair.first, pair.second))
    chosen, rejected = (first, second) if first_preferred else (second, first)
    return TrainingExample(prompt.text, chosen, rejected)
