"""Histories: sequences of centuries with a model each, and what was measured of them."""

from progressgym_env.histories.history import History, read_history, remeasure
from progressgym_env.histories.loading import HISTORIES, load
from progressgym_env.histories.records import Exchange, Records

__all__ = ["HISTORIES", "Exchange", "History", "Records", "load", "read_history", "remeasure"]
