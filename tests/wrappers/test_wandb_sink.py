"""The W&B sink, with the real wandb: offline in a folder, read back with wandb's own reader."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger, Video

from progressgym_env.errors import InvalidArgumentError, UnknownNameError
from progressgym_env.values.dimensions import DIMENSIONS
from progressgym_env.wrappers.wandb_curves import sb3_output_format
from progressgym_env.wrappers.wandb_sink import VALUE_NAMES, Century, TrackingWarning, WandbSink
from tests.wrappers.wandb_runs import Run, in_a_process, read_run, read_run_at, run_folders


def century(index: int, *, proxied: bool = False) -> Century:
    rng = np.random.default_rng(index)
    return Century(
        index=index,
        name=f"C{13 + index:03d}",
        reward=float(rng.random()),
        judge_values=rng.random(19),
        examinee_values=rng.random(19),
        proxy_values=rng.random(19) if proxied else None,
        n_examples=10 * index,
    )


def logged(folder: Path, act, **arguments) -> Run:
    """What is in the run after ``act`` had its sink; it must not have warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrackingWarning)
        with WandbSink(mode="offline", folder=folder, **arguments) as sink:
            act(sink)
    return read_run(folder)


def test_the_values_have_readable_names():
    assert VALUE_NAMES[0] == "do not kill"
    assert VALUE_NAMES[10] == "harm-care"
    assert VALUE_NAMES[18] == "integrative world view"
    assert len(set(VALUE_NAMES)) == len(DIMENSIONS) == 19
    assert not [name for name in VALUE_NAMES if "/" in name or "." in name], "W&B splits there"


def test_every_metric_of_every_century_is_there_to_the_last_digit(wandb_home: Path):
    centuries = [century(i, proxied=True) for i in (1, 2, 3)]

    def act(sink: WandbSink) -> None:
        for one in centuries:
            sink.log_century(one, n_steps=3, labels={"agent": "hold", "seed": 7})
        sink.log_episode(0.9, 0.8999999, {"agent": "hold", "seed": 7})

    run = logged(wandb_home, act)
    *rows, end = run.rows
    assert len(rows) == 3
    for row, one in zip(rows, centuries, strict=True):
        judge, examinee = np.array(one.judge_values), np.array(one.examinee_values)
        cosine = judge @ examinee / np.linalg.norm(judge) / np.linalg.norm(examinee)
        assert row.pop("century/cosine") == pytest.approx(cosine, abs=1e-12)
        expected = {
            "episodes": one.index / 3, "agent": "hold", "seed": 7,
            "century/index": one.index, "century/name": one.name,
            "century/reward": one.reward, "century/examples": one.n_examples,
        }  # fmt: skip
        for who in ("judge", "examinee", "proxy"):
            values = getattr(one, f"{who}_values")
            expected |= {f"{who}/{n}": v for n, v in zip(VALUE_NAMES, values, strict=True)}
        assert row == expected
    assert end == {
        "episodes": 1, "episode/score": 0.9, "episode/return": 0.8999999,
        "episode/agent": "hold", "episode/seed": 7, "score/hold": 0.9,
    }  # fmt: skip
    assert run.exit_code == 0


def test_there_is_no_proxy_where_there_is_none(wandb_home: Path):
    run = logged(wandb_home, lambda sink: sink.log_century(century(1), n_steps=2))
    (row,) = run.rows
    assert not [key for key in row if key.startswith("proxy")]
    assert len([key for key in row if key.startswith("judge/")]) == 19


def test_episodes_are_the_axis(wandb_home: Path):
    def act(sink: WandbSink) -> None:
        for n_done in (2, 1, 2):  # The second episode is left after a step.
            sink.begin_episode()
            for index in range(1, n_done + 1):
                sink.log_century(century(index), n_steps=2)
            if n_done == 2:
                sink.log_episode(0.5, 0.5)

    run = logged(wandb_home, act)
    assert [row["episodes"] for row in run.rows] == [0.5, 1, 1, 1.5, 2.5, 3, 3]
    axes = {run.axes.pop(name) for name in ("episodes", "timesteps")}
    assert axes == {None}
    over = {"century/*", "judge/*", "examinee/*", "proxy/*", "episode/*", "score/*"}
    # Some versions of wandb also write down which metrics the patterns met.
    assert over <= set(run.axes)
    assert set(run.axes.values()) == {"episodes"}


def test_config_name_and_project_are_written(wandb_home: Path):
    config = {"update": "dpo", "versions": {"numpy": "2.4.6", "torch": None}, "seeds": [0, 1]}
    run = logged(wandb_home, lambda _: None, project="mine", name="a run", config=config)
    assert (run.config, run.project, run.name) == (config, "mine", "a run")
    assert run.folder.name.startswith("offline-run-")


def test_the_project_is_the_environments_unless_given(
    wandb_home: Path, monkeypatch: pytest.MonkeyPatch
):
    assert logged(wandb_home / "none", lambda _: None).project == "progressgym"
    monkeypatch.setenv("WANDB_PROJECT", "of-the-environment")
    assert logged(wandb_home / "some", lambda _: None).project == "of-the-environment"


def test_dialogue_grows_by_what_is_new(wandb_home: Path):
    """wandb#2981: other tables are rewritten as a whole whenever a row comes."""

    def act(sink: WandbSink) -> None:
        for _ in range(40):
            sink.log_dialogue("C014", ["What is right?"], ["Þus & ſo."])
            sink.log_episode(0.5, 0.5)
        sink.log_dialogue("C015", ["And now?", "Why?"], ["Nothing.", ""])

    increments = logged(wandb_home, act).table("dialogue")
    rows = [row for increment in increments for row in increment]
    assert rows[:40] == [[i, "C014", "What is right?", "Þus & ſo."] for i in range(1, 41)]
    assert rows[40:] == [[41, "C015", "And now?", "Nothing."], [41, "C015", "Why?", ""]]
    assert [len(increment) for increment in increments[:6]] == [1] * 6
    # W&B shows a hundred; they must get rarer.
    assert len(increments) < 20


def test_pictures_are_there_dot_for_dot(wandb_home: Path):
    dots = np.random.default_rng(0).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    file = wandb_home / "picture.png"
    Image.fromarray(dots[::-1]).save(file)

    def act(sink: WandbSink) -> None:
        sink.log_picture("array", dots)
        sink.log_picture("file", file)

    run = logged(wandb_home, act)
    first, second = (run.file(run.rows[i][f"{k}.path"]) for i, k in ((0, "array"), (1, "file")))
    np.testing.assert_array_equal(np.asarray(Image.open(first)), dots)
    assert second.read_bytes() == file.read_bytes()


def test_the_summary_holds_what_it_is_told(wandb_home: Path):
    run = logged(wandb_home, lambda sink: sink.summarise({"skill/hold": 0.0, "note": "text"}))
    assert (run.summary["skill/hold"], run.summary["note"]) == (0.0, "text")


def test_training_curves_are_drawn_over_time_steps(wandb_home: Path):
    def act(sink: WandbSink) -> None:
        logger = Logger(None, [sb3_output_format(sink)])
        logger.record("train/loss", np.float32(0.5))
        logger.record("time/iterations", 3)
        logger.record("rollout/note", "no number")
        logger.record("rollout/kept out", 1.0, exclude="wandb")
        logger.record("rollout/not here", 2.0, exclude=("stdout", "json"))
        logger.record("video", Video(None, 1.0), exclude=("stdout",))
        logger.dump(step=4096)
        logger.record("rollout/note", "still none")
        logger.dump(step=5000)
        logger.close()
        sink.log({"train/loss": 0.25}, 8192)

    run = logged(wandb_home, act)
    assert run.rows == [
        {"timesteps": 4096, "train/loss": 0.5, "time/iterations": 3, "rollout/not here": 2},
        {"timesteps": 8192, "train/loss": 0.25},
    ]
    for name in ("train/loss", "time/iterations", "rollout/not here"):
        assert run.axes[name] == "timesteps"


def test_stable_baselines_own_curves_arrive(wandb_home: Path):
    def act(sink: WandbSink) -> None:
        model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, n_epochs=1, seed=0)
        model.set_logger(Logger(None, [sb3_output_format(sink)]))
        model.learn(128)

    run = logged(wandb_home, act)
    assert [row["timesteps"] for row in run.rows] == [64, 128]
    last = run.rows[-1]
    assert {"rollout/ep_rew_mean", "time/fps", "train/loss", "train/entropy_loss"} <= set(last)
    assert last["rollout/ep_rew_mean"] > 5


def test_a_disabled_sink_writes_nothing_and_loads_no_wandb(tmp_path: Path):
    code = (
        "import sys; sys.modules['wandb'] = None\n"
        "from tests.wrappers.test_wandb_sink import century\n"
        "from progressgym_env.wrappers.wandb_sink import WandbSink\n"
        "with WandbSink(mode='disabled', folder='runs') as sink:\n"
        "    sink.log_century(century(1), n_steps=1); sink.log_episode(1, 1)\n"
        "    sink.log_dialogue('C014', ['a'], ['b']); sink.log({'a': 1.0}, 1)\n"
        "print(sink.active, sink.where, sink.folder)"
    )
    work = tmp_path / "work"
    work.mkdir()
    done = in_a_process(code, tmp_path / "home", work)
    assert (done.returncode, done.stdout) == (0, "False None None\n"), done.stderr
    assert "W&B" not in done.stderr
    assert not list(work.iterdir())


@pytest.mark.parametrize(("setting", "kinds"), [("disabled", []), ("offline", ["offline-run"])])
def test_without_a_mode_wandbs_own_setting_holds(
    setting: str, kinds: list[str], wandb_home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", setting)
    with WandbSink(folder=wandb_home / "place") as sink:
        sink.log_century(century(1), n_steps=1)
        sink.log_dialogue("C014", ["a"], ["b"])
        sink.log_episode(0.5, 0.5)
        sink.log_picture("picture", np.zeros((9, 16, 3), np.uint8))
    assert [p.name[:11] for p in run_folders(wandb_home / "place")] == kinds
    assert not list(wandb_home.glob("wandb")), "nothing is written elsewhere"


def test_where_a_run_is_stands_on_stderr(wandb_home: Path, capfd: pytest.CaptureFixture[str]):
    run = logged(wandb_home / "said", lambda _: None)
    said = f"W&B: offline; upload it with: wandb sync {run.folder}\n"
    assert capfd.readouterr().err == said
    logged(wandb_home / "silent", lambda _: None, silent=True)
    assert capfd.readouterr() == ("", "")


def test_a_call_that_fails_is_said_once_and_stops_nothing(wandb_home: Path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with WandbSink(mode="offline", folder=wandb_home) as sink:
            sink.log({"before": 1.0}, 1)
            for _ in range(3):
                sink.log_picture("no picture", np.zeros((4, 4, 7), np.uint8))
                sink.log({"after": 1.0}, 2)
    said = [str(w.message) for w in caught if w.category is TrackingWarning]
    assert len(said) == 1
    assert said[0].startswith("W&B has stopped (")
    assert said[0].endswith(str(sink.folder))
    run = read_run(wandb_home)
    assert run.rows == [{"timesteps": 1, "before": 1}]
    assert run.exit_code == 0


def test_an_experiment_outlives_wandbs_own_process(tmp_path: Path):
    code = (
        "import psutil, warnings; warnings.simplefilter('always')\n"
        "from progressgym_env.wrappers.wandb_sink import WandbSink\n"
        "sink = WandbSink(mode='offline', folder='runs')\n"
        "sink.log({'a': 1.0}, 1)\n"
        "(core,) = [c for c in psutil.Process().children() if 'wandb' in c.name()]\n"
        "core.kill(); core.wait()\n"
        "for i in range(1000): sink.log({'a': 1.0}, i)\n"
        "sink.finish(); print('went on')"
    )
    done = in_a_process(code, tmp_path / "home", tmp_path)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert done.stderr.count("TrackingWarning") == 1, done.stderr


def test_where_nothing_can_be_written_nothing_stops(wandb_home: Path):
    (wandb_home / "file").touch()
    sink = WandbSink(mode="offline", folder=wandb_home / "file" / "below")
    with pytest.warns(TrackingWarning, match="W&B does not start") as caught, sink:
        sink.log({"a": 1.0}, 1)
    assert len(caught) == 1
    assert (sink.active, sink.where) == (False, None)


def test_a_failed_experiment_is_marked(wandb_home: Path):
    with pytest.raises(RuntimeError, match="mine"), WandbSink(mode="offline", folder=wandb_home):
        raise RuntimeError("mine")
    assert read_run(wandb_home).exit_code == 1


def test_the_end_is_the_end(wandb_home: Path):
    sink = WandbSink(mode="offline", folder=wandb_home)
    sink.log({"a": 1.0}, 1)
    sink.finish()
    sink.finish()
    sink.log({"a": 2.0}, 2)
    never = WandbSink(mode="offline", folder=wandb_home / "never")
    never.finish()
    never.log({"a": 1.0}, 1)
    assert read_run(wandb_home).rows == [{"timesteps": 1, "a": 1}]
    assert not (wandb_home / "never").exists()


def test_a_run_of_the_callers_own_stays_as_it_is(wandb_home: Path):
    import wandb

    own = wandb.init(mode="offline", dir=wandb_home / "own", project="theirs")
    with WandbSink(mode="offline", folder=wandb_home / "ours") as sink:
        sink.log({"a": 1.0}, 1)
        assert wandb.run is own
    own.log({"b": 2})
    own.finish()
    (place,) = run_folders(wandb_home / "ours")
    assert read_run_at(place).rows == [{"timesteps": 1, "a": 1}]


@pytest.mark.parametrize("project", ["", "a/b", "100%", "x" * 129, 3])
def test_a_project_that_wandb_would_refuse_is_refused_at_once(project):
    with pytest.raises(InvalidArgumentError, match="must be a name of 1 to 128 characters"):
        WandbSink(project, mode="offline")


def test_an_unknown_mode_is_refused_at_once():
    with pytest.raises(UnknownNameError, match="did you mean 'offline'"):
        WandbSink(mode="ofline")


NAMESPACE = (
    "import importlib.machinery, sys\n"
    "class Left:\n"
    "    def find_spec(self, name, path=None, target=None):\n"
    "        if name == 'wandb': return importlib.machinery.PathFinder.find_spec(name, ['.'])\n"
    "sys.meta_path.insert(0, Left())\n"
)


@pytest.mark.parametrize("absence", ["import sys; sys.modules['wandb'] = None\n", NAMESPACE])
@pytest.mark.parametrize("mode", ["offline", None])
def test_a_missing_wandb_says_what_to_do(absence: str, mode: str | None, tmp_path: Path):
    """Also beside a folder ``wandb`` of an earlier run, which Python takes for a package."""
    (tmp_path / "wandb").mkdir()
    code = (
        f"{absence}"
        "from progressgym_env.wrappers.wandb_sink import WandbSink\n"
        "from progressgym_env.wrappers.wandb_logger import WandbLogger\n"
        "from tests.envs.episodes import make\n"
        "for attempt in (WandbSink, lambda **m: WandbLogger(make('follow'), **m)):\n"
        f"    try: attempt(mode={mode!r})\n"
        "    except ImportError as error: print(type(error).__name__, error)\n"
    )
    done = in_a_process(code, tmp_path / "home", tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    for line in lines:
        assert line.startswith("MissingPackageError logging to Weights & Biases needs")
        assert line.endswith("pip install 'progressgym-env[track]'")
