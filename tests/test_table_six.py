"Table 6 and the choice of the epoch, on invented runs; and one run of twice the steps with reconstruction."

import copy
import numpy as np
import pytest
from fixtures_runs import made_up_run
from geomrecon.core.skeleton import BODY16, HAND21
from geomrecon.learn.presets import get_preset
from geomrecon.paper.benches import Bench
from geomrecon.paper.findings import findings, gains
from geomrecon.paper.intervals import gap_closed, paired_gain
from geomrecon.paper.looking import gain_by_looking, looking_gain, pck_of_rule
from geomrecon.paper.needed import get_table, get_tables, missing, needed
from geomrecon.paper.raw_results import status_text
from geomrecon.paper.run_files import find_runs
from geomrecon.paper.settings import spec
from geomrecon.paper.specification import (
    COMPARED,
    COMPARED_ON_HANDS,
    added_pairs,
    can_take_rec,
    ours_against,
)
from geomrecon.paper.tables import closed_text, table_frame
from geomrecon.paper.training import split_changes
from geomrecon.paper.work_list import run

SKELETONS = dict(hand=HAND21, body=BODY16)
QUICK = get_preset(
    'tiny-2d',
    name='quick',
    steps=1,
    epochs=1,
    adapt_epochs=2,
    bs=4,
    adapt_bs=4,
    adapt_bs_target=2,
    width=0.25,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    rec_attach=1.0,
)
MICE = Bench('mice', 'mouse', n_videos=2, n_frames=16, n_test=4)


def made(bench, method, seeds=(0, 1, 2), **options):
    return [made_up_run(method, seed, SKELETONS[bench], bench, **options) for seed in seeds]


@pytest.fixture(scope='module')
def every_run():
    "Invented runs for all rows of Table 6"
    runs = []
    for row in get_table('6').rows:
        rate = 0.85 if row.method == 'oracle-twice' else None
        runs += made(row.bench, row.method, rate=rate)
    return runs


# The table


def test_every_method_stands_there_four_times():
    rows = {(row.bench, row.method) for row in get_table('6').rows}
    wanted = {'hand': ('pseudo', *COMPARED, *COMPARED_ON_HANDS), 'body': ('pseudo', *COMPARED)}
    for bench, methods in wanted.items():
        for method in methods:
            assert (bench, method) in rows
            assert (bench, f'{method}-twice') in rows
    taking = [name for name in (*COMPARED, *COMPARED_ON_HANDS) if can_take_rec(name)]
    n_of_hands = 2 * (1 + len(taking))
    n_of_bodies = 2 * (1 + len([name for name in COMPARED if can_take_rec(name)]))
    pairs = added_pairs(get_table('6').rows)
    assert len(pairs) == n_of_hands + n_of_bodies
    assert get_tables('6') == [get_table('6')]


def test_differences_are_those_of_the_runs(every_run):
    table = get_table('6')
    tested = gains(table, every_run)
    assert len(tested) == len(table.pairs) == len(findings(table, every_run))
    with_it = find_runs(every_run, 'body', 'regda+rec-twice')
    without = find_runs(every_run, 'body', 'regda-twice')
    label = 'body: RegDA + reconstruction, twice as long against RegDA, twice as long'
    assert tested[label] == paired_gain(with_it, without)


def test_ours_is_compared_at_equal_steps():
    for ours, other in ours_against(get_table('6').rows):
        assert ours.method == ('full-twice' if other.method.endswith('-twice') else 'full')
        assert '+' not in other.method


def test_nothing_is_said_without_runs_on_both_sides(every_run):
    "As it is before the runs are made"
    there = [run for run in every_run if '+rec' not in run['method']]
    assert not [label for label in gains('6', there) if '+ reconstruction against' in label]
    assert 'hand: ours against ours, labels alone' in gains('6', there)
    lacking = missing('6', there)
    assert lacking
    assert all('+rec' in method for _, method, _, _ in lacking)
    assert len(lacking) + len(there) == len(needed('6'))
    assert 'UniFrame + reconstruction                  missing seeds 0, 1, 2' in status_text(
        '6', there
    )


def test_the_gap_of_longer_runs_is_that_of_a_longer_oracle(every_run):
    frame = table_frame('6', every_run)
    hands = frame[frame['bench'] == 'hand']
    source = find_runs(every_run, 'hand', 'source')
    for method, oracle in (('full', 'oracle'), ('full-twice', 'oracle-twice')):
        mine = find_runs(every_run, 'hand', method)
        name = 'ours, twice as long' if method.endswith('-twice') else 'ours'
        found = hands.loc[name, 'gap closed']
        assert found == closed_text(mine, source, find_runs(every_run, 'hand', oracle))
    longer = find_runs(every_run, 'hand', 'oracle-twice')
    shorter = find_runs(every_run, 'hand', 'oracle')
    full_twice = find_runs(every_run, 'hand', 'full-twice')
    share = gap_closed(full_twice, source, longer).mean
    assert share < gap_closed(full_twice, source, shorter).mean


def test_options_go_where_they_belong():
    of_preset, of_method = split_changes(spec('hand', 'uniframe+rec-twice'))
    assert of_preset == dict(rec_gate=0.5)
    assert of_method == dict(decay=0.99)
    of_preset, of_method = split_changes(spec('hand', 'regda+rec', changes=dict(weight=0.3)))
    assert (of_preset, of_method) == (dict(rec_gate=0.5), dict(weight=0.3))


# A run


def test_a_run_of_twice_the_steps_with_reconstruction(tmp_path):
    asked = spec(MICE, 'ccssl+rec-twice', preset=QUICK)
    found = run(asked, tmp_path / 'results', tmp_path / 'work')
    assert found['method'] == 'ccssl+rec-twice'
    assert found['options'] == dict(weight=3.0, rec_gate=0.5)
    assert found['steps'] == 2 * QUICK.steps * QUICK.adapt_epochs
    assert [epoch['epoch'] for epoch in found['epochs']] == list(range(2 * QUICK.adapt_epochs))
    # W and G are there, and the label-free figure of every epoch
    assert 'reconstruction' in found['diagnosis']['after']
    assert all(0 < epoch['affine'] < 1 for epoch in found['epochs'])
    assert pck_of_rule(found, 'affine') in [epoch['test'] for epoch in found['epochs']]


# The choice of the epoch


def test_choosing_on_test_labels_gains_where_no_epoch_is_better():
    "Figures that are noise alone"
    random = np.random.default_rng(0)
    runs = []
    for noisy in made('hand', 'full', range(8)):
        for epoch in noisy['epochs']:
            epoch['test'] = 60 + random.normal()
            epoch['valid'] = 60 + random.normal()
        runs.append(noisy)
    assert looking_gain(runs, 'test').low > 0
    assert abs(looking_gain(runs, 'valid').mean) < 1.5


def test_gains_are_taken_within_a_run_and_paired_by_seed():
    ours = made('hand', 'full')
    other = copy.deepcopy(made('hand', 'regda', (0, 2)))
    for shifted in other:
        for epoch in shifted['epochs']:
            epoch['test'] += 10
    alone = looking_gain(made('hand', 'regda', (0, 2)), 'test')
    assert looking_gain(other, 'test').mean == pytest.approx(alone.mean)
    assert list(looking_gain(other, 'test', ours).each) == [0, 2]
    frame = gain_by_looking([*ours, *other], 'hand', ['regda', 'full'])
    assert frame['seeds'].tolist() == [2, 3]
