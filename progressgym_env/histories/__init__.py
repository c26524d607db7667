"""Histories: sequences of centuries with a model each, and what was measured of them."""

from progressgym_env.histories.family import FAMILIES, Family
from progressgym_env.histories.history import History, read_history, remeasure
from progressgym_env.histories.loading import HISTORIES, load
from progressgym_env.histories.records import Exchange, Records
from progressgym_env.histories.simulated import SimulatedHistories, SimulatedHistory, twin

__all__ = [
    "FAMILIES",
    "HISTORIES",
    "Exchange",
    "Family",
    "History",
    "Records",
    "SimulatedHistories",
    "SimulatedHistory",
    "load",
    "read_history",
    "remeasure",
    "twin",
]
