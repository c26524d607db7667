"""Packed rows: shared beginnings, and the same numbers as without packing."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressgym_env.models.packing import TokenRow, batches, collate

tokens = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def test_shared_beginning_is_stored_once():
    row = TokenRow()
    row.add([1, 2, 3], [[7], [8, 9]])
    row.add([1, 2, 4], [[7]])
    # 1 2 shared; 3, 8 (input for 9) and 4 follow. The last token of an answer is only read.
    assert row.tokens == [1, 2, 3, 8, 4]
    assert row.depths == [0, 1, 2, 3, 2]
    assert [(node, token, answer) for node, token, answer, _ in row.edges] == [
        (2, 7, 0),
        (2, 8, 1),
        (3, 9, 1),
        (4, 7, 2),
    ]


def test_a_token_sees_its_ancestors_and_itself_only():
    row = TokenRow()
    row.add([1, 2], [[5, 6]])
    row.add([1, 3], [[5, 6]])
    batch = collate([row], pad_token=0)
    assert batch.input_ids.tolist() == [[1, 2, 5, 3, 5]]
    assert batch.visible[0].astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 1],
    ]


@given(
    st.lists(st.tuples(tokens, st.lists(tokens, min_size=1, max_size=3)), min_size=1, max_size=5)
)
def test_every_path_reads_like_the_sequence_it_stands_for(prompts):
    row = TokenRow()
    for prompt, answers in prompts:
        row.add(prompt, answers)
    expected = [(prompt, answer) for prompt, answers in prompts for answer in answers]
    assert row.n_answers == len(expected)
    for number, (prompt, answer) in enumerate(expected):
        edges = [(node, token) for node, token, a, _ in row.edges if a == number]
        assert [token for _, token in edges] == answer
        for place, (node, _) in enumerate(edges):
            path = []
            while node >= 0:
                path.append(row.tokens[node])
                node = row.parents[node]
            assert path[::-1] == [*prompt, *answer[:place]]
            assert row.depths[edges[place][0]] == len(path) - 1


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
    st.integers(50, 300),
    st.integers(0, 100),
)
def test_batches_hold_every_row_once_within_the_limit(lengths, limit, overhead):
    groups = list(batches(lengths, limit, lengths, sum(lengths), overhead=overhead))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(max(lengths[i] for i in group) * len(group) <= limit for group in groups)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(9, 60),
)
def test_batches_are_read_at_no_more_places_than_the_limit(rows, limit):
    lengths, places = zip(*rows, strict=True)
    groups = list(batches(lengths, sum(lengths) * 50, places, limit, overhead=10))
    assert sorted(i for group in groups for i in group) == list(range(len(rows)))
    assert all(sum(places[i] for i in group) <= limit for group in groups)
    assert list(batches([7, 7], 100, [50, 50], 10, overhead=10)) == [[0], [1]]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7), st.integers(0, 40))
def test_no_other_groups_cost_less(lengths, overhead):
    """Against all ways to cut the rows, sorted by length, into groups."""

    def cost(groups):
        return sum(len(group) * max(group) + overhead for group in groups)

    rows = sorted(lengths, reverse=True)
    ways = []
    for cuts in product((False, True), repeat=len(rows) - 1):
        groups = [[rows[0]]]
        for cut, row in zip(cuts, rows[1:], strict=True):
            if cut:
                groups.append([])
            groups[-1].append(row)
        ways.append(cost(groups))
    found = batches(lengths, 10**6, lengths, 10**6, overhead=overhead)
    assert cost([[lengths[i] for i in group] for group in found]) == min(ways)


def test_places_are_where_answers_are_read():
    row = TokenRow()
    row.add([1, 2, 3], [[7], [8, 9]])
    row.add([1, 2, 3], [[7, 9]])
    assert row.n_places == 3  # After the prompt, after 8 and after 7.


def test_collate_numbers_answers_across_rows_and_keeps_weights():
    one, two = TokenRow(), TokenRow()
    one.add([1], [[2], [3]], weights=[0.25, 0.75])
    two.add([4, 5], [[6]])
    batch = collate([one, two], pad_token=9)
    assert batch.input_ids.tolist() == [[1, 9], [4, 5]]
    assert batch.edge_answer.tolist() == [0, 1, 2]
    assert batch.edge_weight.tolist() == [0.25, 0.75, 1.0]
    assert batch.n_answers == 3
    assert batch.visible[0].tolist() == [[True, False], [False, True]]


def test_collate_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="max"):
        collate([], pad_token=0)
    assert np.array_equal(list(batches([], 10, [], 10, overhead=1)), [])
