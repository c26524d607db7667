"""The last stages of a build: perplexities, values, cards, and the header of the history."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from progressgym_env import __version__
from progressgym_env.files import write_json
from progressgym_env.histories.declared import Checkpoint
from progressgym_env.histories.folder import ADAPTERS, write_history
from progressgym_env.histories.history import History, read_history
from progressgym_env.histories.measured import MeasuredPart, joined
from progressgym_env.histories.prepare import open_prompts
from progressgym_env.histories.records import Records, measure_centuries
from progressgym_env.histories.sources import ModelSource
from progressgym_env.histories.text.analysis import TextAnalysis, analyse
from progressgym_env.histories.text.cards import write_cards
from progressgym_env.histories.text.century_models import BASE, MODELS
from progressgym_env.histories.text.context import STAGES, Context
from progressgym_env.histories.text.passages import ANALYSIS_FILE, HELD_OUT_FILE
from progressgym_env.histories.text.perplexity import (
    held_out_documents,
    held_out_of,
    score,
    table_of,
)
from progressgym_env.histories.text.stages import digest_of
from progressgym_env.histories.text.timeless import Understanding, understanding
from progressgym_env.histories.text.values_paired import (
    MeasuredValues,
    compare,
    question_scores,
    write_values,
)
from progressgym_env.models.language import LanguageModel
from progressgym_env.values.embedding import ValueEmbedding
from progressgym_env.values.questions import QuestionSet

__all__ = ["Finished", "finish"]

_RECIPE = "recipe.json"
_FORMAT = 1
"""Raised whenever the same models would be measured otherwise."""


@dataclass(frozen=True)
class Finished:
    """The models of a build, all of them trained.

    Attributes:
        centuries: their names, oldest first.
        texts: century → a digest of its passages.
        models: century → a key that names its model.
        source: the models.
        checkpoints: the models as the header names them, where they are full ones.
        base_revision: what exactly the base is, of the hub or a folder; None of one from nothing.
    """

    centuries: tuple[str, ...]
    texts: Mapping[str, str]
    models: Mapping[str, str]
    source: ModelSource
    checkpoints: Sequence[Checkpoint]
    base_revision: str | None = None


def finish(build: Context, finished: Finished, questions: QuestionSet) -> History:
    """Measure the models, and make a history of the folder."""
    analysis = _analysed(build, finished, questions)
    records, values = _measured(build, finished, questions)
    finished.source.release()
    _remove_strangers(build.out, finished)
    write_values(build.text, values)
    held_out = held_out_documents(build.text, finished.centuries)
    write_json(build.text / HELD_OUT_FILE, held_out)
    write_json(build.out / _RECIPE, build.recipe.as_dict())
    write_cards(build.out, build.recipe, analysis, values, held_out)
    write_history(
        build.out,
        name=build.recipe.name,
        names=finished.centuries,
        base=None if finished.checkpoints else BASE,
        checkpoints=finished.checkpoints,
        questions=questions,
        records=records,
        provenance={
            "synthetic": False,
            "description": build.recipe.description,
            "recipe": build.recipe.as_dict(),
            "base_revision": finished.base_revision,
            "characters": {c.name: c.characters for c in analysis.centuries},
            "package_version": __version__,
            "torch_version": version("torch"),
            "device": build.device,
            "seed": build.recipe.seed,
        },
    )
    return read_history(build.out)


def _remove_strangers(out: Path, finished: Finished) -> None:
    """Remove models that an earlier recipe has left: of another method, or of other centuries."""
    kept, other = (MODELS, ADAPTERS) if finished.checkpoints else (ADAPTERS, MODELS)
    if (out / other).is_dir():
        shutil.rmtree(out / other)
    for path in (out / kept).iterdir():
        if path.is_dir() and path.name not in finished.centuries:
            shutil.rmtree(path)


def _analysed(build: Context, finished: Finished, questions: QuestionSet) -> TextAnalysis:
    """Perplexities of every century's model, and the analysis of the text."""
    settings, centuries = build.recipe.measure, finished.centuries
    held_out = held_out_of(build.text, centuries, settings.passages)
    by_model = []
    for index, century in enumerate(centuries):
        stage = f"perplexity-{century}"
        key = digest_of(_FORMAT, finished.models[century], finished.texts, settings.passages, stage)
        done = build.stages.outcome(stage, key)
        if done is None:
            with build.stages.doing(stage, key) as noted:
                model = _model(build, finished, index, questions)
                noted["scores"] = score(model, held_out, build.recipe.pretrain.context)
                done = noted
        by_model.append(done["scores"])
        build.tell("perplexities", index + 1, len(centuries))
    build.tell("analysis", 0, 1)
    analysis = analyse(build.text, centuries, build.stream("analysis"))
    analysis = replace(analysis, perplexity=table_of(centuries, held_out, by_model))
    write_json(build.text / ANALYSIS_FILE, analysis.to_dict())
    build.tell("analysis", 1, 1)
    return analysis


def _measured(
    build: Context, finished: Finished, questions: QuestionSet
) -> tuple[Records, MeasuredValues]:
    """The records, and what else was found of the values."""
    parts, scores = [], []
    understood: dict[str, Understanding] = {}
    for index, century in enumerate(finished.centuries):
        key = {
            "format": _FORMAT,
            "model": finished.models[century],
            "questions": questions.hash,
            "prompts": digest_of(open_prompts()),
            "seed": build.recipe.seed,
            "device": build.device,
        }
        stage = f"values-{century}"
        part = MeasuredPart(_part(build, century), key, f"the model of {century}")
        records, done = part.read(), build.stages.outcome(stage, digest_of(key))
        if records is None or done is None:
            embeddings: list[ValueEmbedding] = []
            model = _model(build, finished, index, questions)
            with build.stages.doing(stage, digest_of(key)) as noted:
                records = measure_centuries(
                    [model],
                    questions,
                    open_prompts(),
                    build.stream(f"measure-{century}"),
                    on_values=embeddings.append,
                )
                noted["scores"] = question_scores(questions.eval, embeddings[0])
                noted["understanding"] = asdict(understanding(model))
                part.write(records)
                done = noted
        parts.append(records)
        scores.append(done["scores"])
        understood[century] = Understanding(**done["understanding"])
        build.tell("measuring", index + 1, len(finished.centuries))
    return joined(parts), MeasuredValues(compare(scores, build.stream("values")), understood)


def _part(build: Context, century: str) -> Path:
    return build.out / STAGES / f"measured-{century}.part"


def _model(build: Context, finished: Finished, index: int, questions: QuestionSet) -> LanguageModel:
    model = finished.source.model(index, build.device, questions)
    assert isinstance(model, LanguageModel)
    return model
