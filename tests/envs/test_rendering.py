"""Pictures, text and video of episodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

from progressgym_env import CHALLENGES
from progressgym_env.agents import AGENTS
from progressgym_env.envs.rendering import trajectory_figure, trajectory_text
from progressgym_env.envs.trajectory import Trajectory
from progressgym_env.errors import InvalidArgumentError
from progressgym_env.values.dimensions import DIMENSIONS
from tests.envs.episodes import make, play
from tests.scripted import scripted_history

every_challenge = pytest.mark.parametrize("challenge", CHALLENGES)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes}


def bars(values):
    return "".join("▁▂▃▄▅▆▇█"[min(int(8 * value), 7)] for value in values)


@every_challenge
def test_text(challenge):
    """In every cell the present value, and a bar for every century it is known of."""
    env = make(challenge, render_mode="ansi")
    paid = 0.0
    for _, reward, *_, info in play(env):
        paid += reward
        heading, scale, columns, *rows = env.render().splitlines()
        assert info["century_name"] in heading
        assert f"reward so far {paid:.4f}" in heading
        assert f"C013 to {info['century_name']}" in scale
        known = env.unwrapped.trajectory
        if challenge == "coevolve":
            assert columns.split() == ["people", "proxy", "examinee"]
            shown = [known.judge_values, known.proxy_values, known.examinee_values]
        else:
            assert columns.split() == ["judge", "examinee"]
            shown = [known.judge_values, known.examinee_values]
        assert len(rows) == len(DIMENSIONS)
        for row, dimension in zip(rows, DIMENSIONS, strict=True):
            assert row.startswith(dimension.label)
            expected = [(f"{v[-1]:.3f}", bars(v)) for v in (x[:, dimension.index] for x in shown)]
            assert row[len(dimension.label) :].split() == [
                word for cell in expected for word in cell
            ]
        starts = [columns.index(head) for head in columns.split()]
        assert all(row[start : start + 2] in ("0.", "1.") for row in rows for start in starts)


def test_bars_have_a_fixed_scale_from_nought_to_one():
    rows = np.repeat([[0.0], [0.124], [0.126], [0.5], [0.874], [0.876], [1.0]], 19, axis=1)
    names = tuple("abcdefg")
    trajectory = Trajectory(names, np.arange(7), rows, rows[:1], None, np.zeros(0))
    line = trajectory_text(trajectory).splitlines()[3]
    assert line.split()[-4:] == ["1.000", "▁▁▂▅▇██", "0.000", "▁"]


@pytest.mark.parametrize(("n_centuries", "n_bars"), [(2, 2), (18, 18), (30, 18)])
def test_text_fits_the_terminal_however_long_the_history(n_centuries, n_bars):
    env = make("coevolve", history=scripted_history(n_centuries), render_mode="ansi")
    list(play(env))
    lines = env.render().splitlines()
    assert max(len(line) for line in lines) <= 110
    assert [len(word) for word in lines[3].split()[-6:]] == [5, n_bars] * 3
    assert f"{env.unwrapped.history.names[-n_bars]} to" in lines[1]


@every_challenge
def test_picture(challenge):
    env = make(challenge, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(env.action_space.sample())
    after = env.render()
    assert before.shape == after.shape == (720, 1280, 3)
    assert before.dtype == np.uint8
    assert (before != after).any()


@every_challenge
def test_video(challenge, tmp_path):
    pytest.importorskip("moviepy")
    env = RecordVideo(
        make(challenge, render_mode="rgb_array"), str(tmp_path / "video"), disable_logger=True
    )
    list(play(env))
    env.close()
    (video,) = (tmp_path / "video").glob("*.mp4")
    assert video.stat().st_size > 5000


def test_without_a_mode_render_says_how_to_get_one():
    env = make("follow").unwrapped
    env.reset()
    with pytest.warns(UserWarning, match="render_mode='ansi'"):
        assert env.render() is None


def test_figure_draws_what_it_is_given(tmp_path):
    history = scripted_history()
    runs = {"hold": history.values[:1].repeat(5, axis=0), "lifelong": history.values[::-1]}
    proxies = {"lifelong": history.values * 0.9}
    figure = trajectory_figure(history.names, history.values, runs, proxies, title="Coevolve")
    found = panels(figure)
    assert set(found) == {d.label for d in DIMENSIONS}
    for dimension in DIMENSIONS:
        judge, hold, lifelong, proxy = found[dimension.label].lines
        for line, values in (
            (judge, history.values), (hold, runs["hold"]), (lifelong, runs["lifelong"]),
            (proxy, proxies["lifelong"]),
        ):  # fmt: skip
            assert line.get_ydata() == pytest.approx(values[:, dimension.index])
        assert lifelong.get_color() == proxy.get_color() != hold.get_color()
        assert (lifelong.get_linestyle(), proxy.get_linestyle()) == ("-", "--")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["judge", "hold", "lifelong", "dashed: its human proxy"]
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        path = tmp_path / f"trajectories{suffix}"
        figure.savefig(path)
        assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("proxied", [False, True])
def test_every_agent_has_a_look_of_its_own(proxied):
    """All agents at once: no two solid lines alike, and the legend inside the picture."""
    history = scripted_history()
    runs = dict.fromkeys(AGENTS, history.values)
    figure = trajectory_figure(
        history.names, history.values, runs, runs if proxied else None,
        judge_label="people of the century",
    )  # fmt: skip
    _, *lines = panels(figure)[DIMENSIONS[0].label].lines
    looks = [(line.get_color(), line.get_marker()) for line in lines[: len(AGENTS)]]
    assert len(set(looks)) == len(AGENTS) > 8
    shown = figure.legends[0].get_lines()
    assert looks == [(h.get_color(), h.get_marker()) for h in shown[1 : len(AGENTS) + 1]]
    if proxied:
        assert looks == [(line.get_color(), line.get_marker()) for line in lines[len(AGENTS) :]]
    figure.canvas.draw()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert legend.x1 <= whole.x1
    last = panels(figure)[DIMENSIONS[-1].label].get_window_extent()
    assert legend.x0 >= last.x1


def test_several_episodes_give_a_mean_and_a_band():
    history = scripted_history()
    many = np.stack([history.values * 0.8, history.values])
    figure = trajectory_figure(history.names, history.values, {"lifelong": many})
    axes = panels(figure)[DIMENSIONS[0].label]
    assert axes.lines[1].get_ydata() == pytest.approx(history.values[:, 0] * 0.9)
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(history.values[:, 0].min() * 0.8)
    assert heights.max() == pytest.approx(history.values[:, 0].max())


@pytest.mark.parametrize("shape", [(19,), (5, 18), (6, 19), (0, 19), (2, 2, 5, 19)])
def test_figure_refuses_other_shapes(shape):
    history = scripted_history()
    with pytest.raises(InvalidArgumentError, match="values of 'lifelong' have shape"):
        trajectory_figure(history.names, history.values, {"lifelong": np.zeros(shape)})


def test_drawing_leaves_no_global_state():
    """No pyplot, so no figure registry that grows, and no display is looked for."""
    code = (
        "import sys; from tests.envs.episodes import make\n"
        "e = make('follow', render_mode='rgb_array'); e.reset(); e.render()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"
