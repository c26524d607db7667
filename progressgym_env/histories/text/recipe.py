"""Recipes: the TOML file that says how a history is made of text.

::

    name = "mine"
    description = "..."              # may be left out, like everything below but the sources
    seed = 0

    [text]                           # see TextSettings
    sources = ["texts/*.jsonl.gz", "hub:PKU-Alignment/ProgressGym-HistText"]

    [base]                           # see BaseSettings: a model's folder or name on the hub
    model = "meta-llama/Meta-Llama-3-8B"

    [base.scratch]                   # or, instead of a model: a small Llama from nothing
    hidden_size = 192

    [pretrain]                       # of every century: see PretrainSettings
    [instruct]                       # of every century: see InstructSettings
    [measure]                        # see MeasureSettings
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from progressgym_env.arguments import check_choice, check_integer, check_number
from progressgym_env.errors import HistoryError, InvalidArgumentError, unknown_name
from progressgym_env.histories.text.corpus_settings import TextSettings
from progressgym_env.models.base import SMALL_BASE

__all__ = [
    "METHODS",
    "RECIPES",
    "INSTRUCT_RATES",
    "PRETRAIN_RATES",
    "BaseSettings",
    "InstructSettings",
    "MeasureSettings",
    "PretrainSettings",
    "Recipe",
    "ScratchSettings",
    "read_recipe",
]

METHODS = ("lora", "full")
"""What of a model a century trains: an adapter over one base, or all parameters."""

PRETRAIN_RATES = {"lora": (3e-3, 1e-4), "full": (1e-3, 1e-5)}
"""Method → learning rates of continued pretraining, up to 50 million parameters and above.

Only that of small adapters was tried; the paper trains all parameters of 8B at 3e-6 to 1.5e-5.
"""

INSTRUCT_RATES = {"lora": (1e-3, 1e-4), "full": (3e-4, 1e-5)}
"""The same of the tuning that follows; the paper tunes all parameters of 8B at 1.5e-5."""

_MOST_EPOCHS = 10_000

RECIPES = ("histtext-small",)
"""Recipes of the package, by name."""

_FOLDER = Path(str(files("progressgym_env.histories.text") / "recipes"))


@dataclass(frozen=True)
class ScratchSettings:
    """A small Llama from nothing, with a tokenizer of its own.

    It is trained on the text of all centuries, and on conversations, before they part.

    Attributes:
        vocab_size: tokens of the byte-level BPE, 300 or more.
        hidden_size: width, a multiple of ``2 * n_heads``.
        n_layers: depth.
        n_heads: heads of attention.
        epochs: passes over all text.
        chat_share: share of the trained batches that are conversations, in [0, 0.9].
        learning_rate: its peak.
        batch_tokens: tokens of a batch.
    """

    vocab_size: int = 4096
    hidden_size: int = 192
    n_layers: int = 4
    n_heads: int = 4
    epochs: float = 2.0
    chat_share: float = 0.1
    learning_rate: float = 3e-3
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        check_integer("vocab_size", self.vocab_size, 300)
        for name in ("n_layers", "n_heads", "hidden_size"):
            check_integer(name, getattr(self, name), 1)
        if self.hidden_size % (2 * self.n_heads):
            raise InvalidArgumentError(
                f"hidden_size={self.hidden_size} must be a multiple of 2 * n_heads, "
                f"{2 * self.n_heads}"
            )
        check_number("chat_share", self.chat_share, 0, 0.9)
        _check_training(self.epochs, self.learning_rate, self.batch_tokens)


@dataclass(frozen=True)
class BaseSettings:
    """The model that all centuries start from.

    Attributes:
        model: a folder, relative to the recipe, or a name on the hub, of any causal language model;
            None where it is made from nothing.
        revision: of the hub; None takes the newest.
        chat_template: Jinja; None takes the tokenizer's own, or a plain one where it has none.
        end_token: the end-of-text token, of its vocabulary; None takes the tokenizer's own.
        scratch: how it is made from nothing; None where there is a model.
    """

    model: str | None = None
    revision: str | None = None
    chat_template: str | None = None
    end_token: str | None = None
    scratch: ScratchSettings | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.scratch is None):
            raise InvalidArgumentError(
                "[base] must have either 'model', a folder or a name on the hub, or a table "
                "[base.scratch] for a small Llama from nothing"
            )
        if self.scratch is not None and (self.revision or self.chat_template or self.end_token):
            raise InvalidArgumentError(
                "[base]: 'revision', 'chat_template' and 'end_token' belong to a 'model'; a Llama "
                "from nothing has its own: remove them"
            )


@dataclass(frozen=True)
class PretrainSettings:
    """Continued pretraining on a century's text.

    Attributes:
        method: ``"lora"``, an adapter over the shared base, or ``"full"``, all parameters.
        rank: of the adapter; its scaling is twice that.
        context: tokens of a row of text, 16 or more; what the model can read bounds it.
        epochs: passes over the century's text.
        learning_rate: its peak; None takes one for the method and the size of the base.
        batch_tokens: tokens of a batch.
        accumulate: batches to a step of the optimiser.
    """

    method: str = "lora"
    rank: int = 16
    context: int = 256
    epochs: float = 2.0
    learning_rate: float | None = None
    batch_tokens: int = 2048
    accumulate: int = 1

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_integer("rank", self.rank, 1)
        check_integer("context", self.context, 16)
        check_integer("accumulate", self.accumulate, 1)
        _check_training(self.epochs, self.learning_rate, self.batch_tokens)

    def rate(self, n_parameters: int) -> float:
        """The learning rate for a base of so many parameters."""
        return self.learning_rate or _for_size(PRETRAIN_RATES[self.method], n_parameters)


@dataclass(frozen=True)
class InstructSettings:
    """Tuning on the timeless, value-neutral conversations, after a century's text.

    Attributes:
        epochs: passes over the conversations; 0 leaves them out.
        text_share: share of the batches that are the century's text once more, so that it is not
            forgotten, in [0, 0.9].
        learning_rate: its peak; None takes one for the method and the size of the base.
        batch_tokens: tokens of a batch.
    """

    epochs: float = 1.0
    text_share: float = 0.3
    learning_rate: float | None = None
    batch_tokens: int = 2048

    def __post_init__(self) -> None:
        check_number("text_share", self.text_share, 0, 0.9)
        _check_training(self.epochs, self.learning_rate, self.batch_tokens, none=True)

    def rate(self, method: str, n_parameters: int) -> float:
        """The learning rate for a base of so many parameters, trained by ``method``."""
        return self.learning_rate or _for_size(INSTRUCT_RATES[method], n_parameters)


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured of the models.

    Attributes:
        questions: ``"own"``, ``"moralevals"``, or the path of question files, relative to the
            recipe.
        passages: held-out passages of a century and a split that perplexities are taken over at
            most, evenly drawn.
    """

    questions: str = "own"
    passages: int = 200

    def __post_init__(self) -> None:
        check_integer("passages", self.passages, 2)


def _for_size(rates: tuple[float, float], n_parameters: int) -> float:
    return rates[0] if n_parameters <= SMALL_BASE else rates[1]


def _check_training(
    epochs: object, rate: object, batch_tokens: object, *, none: bool = False
) -> None:
    check_number("epochs", epochs, 0, _MOST_EPOCHS, above=not none)
    if rate is not None:
        check_number("learning_rate", rate, 0, 1, above=True)
    check_integer("batch_tokens", batch_tokens, 16)


@dataclass(frozen=True)
class Recipe:
    """How a history is made of text.

    Attributes:
        name: for tables and run folders.
        text: what is read, and how it is cleaned.
        base: the model that all centuries start from.
        description: what it is.
        seed: ≥ 0; decides everything random.
        pretrain, instruct, measure: the stages of every century.
        root: the folder that relative paths start from.
    """

    name: str
    text: TextSettings
    base: BaseSettings
    description: str = ""
    seed: int = 0
    pretrain: PretrainSettings = field(default_factory=PretrainSettings)
    instruct: InstructSettings = field(default_factory=InstructSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)
    root: Path = Path()

    def __post_init__(self) -> None:
        if not self.name.strip() or "/" in self.name or self.name.startswith("."):
            raise InvalidArgumentError(f"name={self.name!r} must be a good name of a folder")
        check_integer("seed", self.seed, 0)

    def as_dict(self) -> dict[str, Any]:
        """All settings, as JSON has them; without the root, which means nothing elsewhere."""
        told = dataclasses.asdict(self)
        del told["root"]
        plain: dict[str, Any] = json.loads(json.dumps(told))
        return plain


def read_recipe(recipe: str | Path) -> Recipe:
    """The recipe of this name, or in this file.

    Raises:
        UnknownNameError: neither a known name nor a file.
        HistoryError: the file is malformed; the message names file, field and what is allowed.
    """
    path = _FOLDER / f"{recipe}.toml" if str(recipe) in RECIPES else Path(recipe)
    if not path.is_file():
        raise unknown_name("recipe", str(recipe), [*RECIPES, "PATH to a TOML file"])
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path} cannot be read as TOML ({error})") from error
    try:
        made = _from_table(Recipe, raw, "")
    except InvalidArgumentError as error:
        raise HistoryError(f"{path}: {error}") from error
    # The package's own recipes are about the user's files.
    root = Path.cwd() if str(recipe) in RECIPES else path.absolute().parent
    found: Recipe = dataclasses.replace(made, root=root)
    return found


def _from_table(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a TOML table; unknown, missing and mistyped keys are refused."""
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "root"}
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise unknown_name(f"key of [{where.rstrip('.')}]" if where else "key", unknown[0], fields)
    missing = [
        name
        for name, f in fields.items()
        if name not in table
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InvalidArgumentError(f"{where or 'the recipe'} lacks {', '.join(missing)}")
    given = {}
    for name, value in table.items():
        given[name] = _converted(hints[name], value, f"{where}{name}")
    try:
        return kind(**given)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"[{where.rstrip('.')}] {error}" if where else str(error)
        ) from None


def _converted(hint: Any, value: Any, where: str) -> Any:
    options = [hint, *get_args(hint)] if get_origin(hint) is not tuple else [hint]
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            return _from_table(option, value, f"{where}.")
        if get_origin(option) is tuple and isinstance(value, list):
            if all(isinstance(item, str) for item in value):
                return tuple(value)
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif option in (int, str, bool) and type(value) is option:
            return value
    names = " or ".join(
        sorted({getattr(o, "__name__", str(o)) for o in options if o in (int, float, str, bool)})
    )
    allowed = names or (
        "a table" if any(map(dataclasses.is_dataclass, options)) else "a list of text"
    )
    raise InvalidArgumentError(f"{where}={value!r} must be {allowed}")
