"""What the environments measure: dimensions, questions and the value embedding."""

from progressgym_env.values.choosing import resolve_questions
from progressgym_env.values.dimensions import DIMENSION_KEYS, DIMENSIONS, N_DIMENSIONS, VIEW_KEYS
from progressgym_env.values.embedding import ValueEmbedding, measure_preferences, measure_values
from progressgym_env.values.questions import Pair, Question, QuestionSet, load_questions

__all__ = [
    "DIMENSIONS",
    "DIMENSION_KEYS",
    "N_DIMENSIONS",
    "VIEW_KEYS",
    "Pair",
    "Question",
    "QuestionSet",
    "ValueEmbedding",
    "load_questions",
    "measure_preferences",
    "measure_values",
    "resolve_questions",
]
