"""Changes of a run folder, each with what a check must say of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from progressgym_env.benchmarks.run_folder import read_config
from progressgym_env.files import file_hash, write_json
from tests.benchmarks.tampered import Tamperer


def edit_score(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["score"] += 0.01
    raw["return"] += 0.01
    raw["steps"][0]["reward"] += 0.01
    own.put(cell, raw, arrays)


def edit_embedding(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["steps"][-1]["examinee_values"][3] += 0.02
    own.put(cell, own.rescored(cell, raw), arrays)


def edit_proxy(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["steps"][1]["proxy_values"][3] += 0.02
    own.put(cell, own.rescored(cell, raw), arrays)


def edit_log_probs(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["examinee_log_probs"][-1, 10] -= 0.5
    own.put(cell, raw, arrays)


def impossible_log_probs(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["examinee_log_probs"][-1, 10] = 0.5
    own.put(cell, raw, arrays)


def edit_action(own: Tamperer) -> None:
    """One pair less, with its digest."""
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["actions"][1, 5] = 0.0
    own.acted(raw, arrays)
    own.put(cell, raw, arrays)


def edit_action_alone(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["actions"][1, 5] = 0.0
    own.put(cell, raw, arrays)


def illegal_action(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["actions"][1, 5] = 1.5
    own.acted(raw, arrays)
    own.put(cell, raw, arrays)


def edit_n_examples(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["steps"][0]["n_examples"] += 1
    own.put(cell, raw, arrays)


def edit_preferences(own: Tamperer) -> None:
    """As if the people had wanted something else, and the agent had followed them."""
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["preferences"][0, 7] *= -1
    arrays["actions"][0, 7] *= -1
    own.acted(raw, arrays)
    own.put(cell, raw, arrays)


def edit_dialogue(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["steps"][1]["dialogue"][0][0] = "Is it raining?"
    own.put(cell, raw, arrays)


def edit_judge(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    raw["steps"][0]["judge_values"][0] += 0.01
    own.put(cell, raw, arrays)


def edit_start(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["initial_values"][0] += 0.01
    own.put(cell, own.rescored(cell, raw), arrays)


def move_an_untrained_model(own: Tamperer) -> None:
    """Give hold the measurements of an agent that trained."""
    hold, trained = own.cell("hold", "predict"), own.cell("lifelong", "predict")
    raw, arrays = own.episode(hold)
    other, measured = own.episode(trained)
    for name in ("examinee_log_probs", "examinee_rows"):
        arrays[name] = measured[name]
    for step, like in zip(raw["steps"], other["steps"], strict=True):
        step["examinee_values"] = like["examinee_values"]
    own.put(hold, own.rescored(hold, raw), arrays)


def unmeasure_a_trained_model(own: Tamperer) -> None:
    """As if training had left the model as it was."""
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    arrays["examinee_rows"][:] = -1
    arrays["examinee_log_probs"] = arrays["examinee_log_probs"][:0]
    for step in raw["steps"]:
        step["examinee_values"] = raw["initial_values"]
    own.put(cell, own.rescored(cell, raw), arrays)


def spare_measurement(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    spare = arrays["examinee_log_probs"][:1]
    arrays["examinee_log_probs"] = np.concatenate([arrays["examinee_log_probs"], spare])
    own.put(cell, raw, arrays)


def exchange_two_seeds(own: Tamperer) -> None:
    one, other = own.cell("random", "predict", 0), own.cell("random", "predict", 1)
    first, second = own.episode(one), own.episode(other)
    own.put(one, {**second[0], "seed": 0}, second[1])
    own.put(other, {**first[0], "seed": 1}, first[1])


def exchange_two_files(own: Tamperer) -> None:
    one, other = (own.run.file_of(own.cell("random", "predict", seed)) for seed in (0, 1))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    lines = own.lines()
    for file in (one, other):
        for line in lines:
            if line["arrays"]["file"] == f"cells/{file.name}":
                line["arrays"]["sha256"] = file_hash(file)
    own.put_lines(lines)


def forget_a_hash(own: Tamperer) -> None:
    cell = own.cell("lifelong", "predict")
    raw, arrays = own.episode(cell)
    lines = own.lines()
    arrays["preferences"] = arrays["preferences"] * 0
    own.put(cell, raw, arrays)
    own.put_lines(lines)


def drop_a_step(own: Tamperer) -> None:
    cell = own.cell("lifelong-soft", "coevolve")
    raw, arrays = own.episode(cell)
    raw["steps"] = raw["steps"][:-1]
    arrays["actions"], arrays["preferences"] = arrays["actions"][:-1], arrays["preferences"][:-1]
    own.put(cell, own.rescored(cell, raw), arrays)


def line_of_something_else(own: Tamperer) -> None:
    lines = own.lines()
    lines[0]["steps"][0]["reward"] = "much"
    own.put_lines(lines)


def lines_in_another_order(own: Tamperer) -> None:
    own.put_lines(own.lines()[::-1])


def a_line_twice(own: Tamperer) -> None:
    lines = own.lines()
    own.put_lines([*lines, lines[0]])


def a_line_less(own: Tamperer) -> None:
    own.put_lines(own.lines()[1:])


def a_file_less(own: Tamperer) -> None:
    own.run.file_of(own.run.cells[0]).unlink()


def a_file_more(own: Tamperer) -> None:
    (own.folder / "cells" / "note.txt").write_text("trust me")


def an_array_more(own: Tamperer) -> None:
    cell = own.run.cells[0]
    raw, arrays = own.episode(cell)
    own.put(cell, raw, {**arrays, "luck": np.zeros(3, dtype=np.float32)})


def a_file_that_is_none(own: Tamperer) -> None:
    cell = own.run.cells[0]
    lines = own.lines()
    own.run.file_of(cell).write_bytes(b"nothing")
    lines[0]["arrays"]["sha256"] = file_hash(own.run.file_of(cell))
    own.put_lines(lines)


def not_complete(own: Tamperer) -> None:
    write_json(own.folder / "summary.json", {"status": "interrupted"})


def edit_config_alone(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["arguments"]["threads"] = 2
    write_json(own.folder / "config.json", config)


def edit_digest(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["history_digest"] = "0" * 64
    write_json(own.folder / "config.json", config)
    own.put_config()


def edit_questions(own: Tamperer) -> None:
    config = read_config(own.folder)
    config["question_set_hash"] = "0" * 64
    write_json(own.folder / "config.json", config)
    own.put_config()


def edit_agents_in_config(own: Tamperer) -> None:
    matrix = read_config(own.folder)["arguments"]["matrix"]
    matrix[0]["agents"] = ["hold", "lifelong", "oracle"]
    own.put_config(matrix=matrix)


def edit_update_in_config(own: Tamperer) -> None:
    matrix = read_config(own.folder)["arguments"]["matrix"]
    matrix[0]["updates"] = ["dpo"]
    own.put_config(matrix=matrix)


TAMPERINGS: tuple[tuple[Callable[[Tamperer], None], str], ...] = (
    (edit_score, "score"),
    (edit_embedding, "step 2 (C015): examinee_values[3]"),
    (edit_log_probs, "examinee_values["),
    (impossible_log_probs, "is the logarithm of no probability"),
    (edit_action, "the agent lifelong would have acted otherwise, step 2: 1 of"),
    (edit_action_alone, "the action's SHA-256 is"),
    (illegal_action, "actions of step 2, pair 5: 1.5, must be in [-1, 1]"),
    (edit_n_examples, "n_examples"),
    (edit_preferences, "preferences[0, 7]"),
    (edit_judge, "judge_values[0]"),
    (move_an_untrained_model, "examinee_values["),
    (unmeasure_a_trained_model, "the examinee was trained, and there is no measurement of it"),
    (spare_measurement, "examinee_log_probs: (3,"),
    (exchange_two_seeds, "the agent random would have acted otherwise"),
    (exchange_two_files, "and its line differ in"),
    (forget_a_hash, "has SHA-256"),
    (line_of_something_else, "reward is 'much', must be a finite number"),
    (lines_in_another_order, "do not stand in the order of the matrix"),
    (a_line_twice, "has 2 lines"),
    (a_line_less, "is missing in episodes.jsonl: the run is incomplete"),
    (a_file_less, "is missing"),
    (a_file_more, "cells/note.txt: belongs to no episode of the matrix"),
    (an_array_more, "luck"),
    (a_file_that_is_none, "cannot be read"),
    (not_complete, "status is 'interrupted'"),
    (edit_config_alone, "config_hash is not that of what the file says was played"),
    (edit_digest, "the history here is another"),
    (edit_questions, "question_set_hash"),
    (edit_agents_in_config, "is no episode of the matrix"),
    (edit_update_in_config, "is no episode of the matrix"),
)


TALKING: tuple[tuple[Callable[[Tamperer], None], str], ...] = (
    (edit_proxy, "proxy_values[3]"),
    (edit_dialogue, "prompts of the dialogue"),
    (edit_start, "initial_values[0]"),
    (drop_a_step, "it has 2 steps, and this challenge takes 3"),
)
