"Statistics of the tables: what must hold for any runs, and that all their forms say the same."

import copy
import csv
import itertools
import json
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from fixtures_runs import made_up_run, verdict
from geomrecon.core.errors import ConfigError, DataError
from geomrecon.core.skeleton import BODY16, HAND21
from geomrecon.paper.findings import findings, gains
from geomrecon.paper.intervals import (
    bootstrap_counts,
    gap_closed,
    paired_gain,
    pck_of_draws,
)
from geomrecon.paper.label_free import correlation, correlation_frame
from geomrecon.paper.needed import get_tables, missing, needed
from geomrecon.paper.provenance import check_tables
from geomrecon.paper.questions import answer, method_questions
from geomrecon.paper.raw_results import csv_agrees, csv_path, status_text, write_csv
from geomrecon.paper.run_files import changes_key, find_runs, load_runs, members, pck_from_counts
from geomrecon.paper.specification import HAND_METHODS, TABLES
from geomrecon.paper.tables import format_table_text, gap_frame, table_frame, table_html

SKELETONS = dict(hand=HAND21, body=BODY16)
GROUPS = ['all', 'fin', 'wrist', 'mcp+fin']
each_group = pytest.mark.parametrize('group', GROUPS)


def made(method, seeds=(0, 1, 2), bench='hand', **options):
    "Made-up runs of one method"
    skeleton = SKELETONS[bench.split('-')[0]]
    return [made_up_run(method, seed, skeleton, bench, **options) for seed in seeds]


def runs_of_table_3():
    methods = ('source', 'aligned', 'uniframe', 'pseudo2d', 'pseudo', 'heatmap', 'full', 'oracle')
    runs = []
    for method in methods:
        runs += made(method)
    return runs


# Paired gains


@each_group
def test_gain_against_itself_is_zero(group):
    gain = paired_gain(made('full'), made('full'), group)
    assert (gain.mean, gain.sd, gain.low, gain.high) == (0, 0, 0, 0)
    assert not gain.excludes_zero
    assert set(gain.each.values()) == {0.0}


@each_group
def test_gain_turns_its_sign_with_its_arguments(group):
    gain = paired_gain(made('full'), made('pseudo'), group)
    back = paired_gain(made('pseudo'), made('full'), group)
    assert gain.mean == -back.mean
    assert np.allclose((gain.low, gain.high), (-back.high, -back.low))
    assert gain.low <= gain.mean <= gain.high


def test_gains_add_up():
    full, pseudo, source = made('full'), made('pseudo'), made('source')
    steps = paired_gain(full, pseudo).mean + paired_gain(pseudo, source).mean
    assert np.isclose(paired_gain(full, source).mean, steps)


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_order_of_runs_does_not_matter(order):
    full, uniframe = made('full'), made('uniframe')
    gain = paired_gain(full, uniframe)
    assert paired_gain([full[i] for i in order], uniframe[::-1]) == gain
    for seed in range(3):
        difference = full[seed]['test']['pck']['all'] - uniframe[seed]['test']['pck']['all']
        assert gain.each[seed] == pytest.approx(difference)


def with_videos_turned(run):
    "The same counts, the second half of the videos first"
    counts = {}
    for name in ('hits', 'seen'):
        videos = run['test'][name]
        counts[name] = videos[8:] + videos[:8]
    return dict(run, test=dict(run['test'], **counts))


def test_pairing_makes_the_interval_shorter():
    "The same videos for both: an effect of the video cancels"
    full, pseudo = made('full', n_videos=16), made('pseudo', n_videos=16)
    paired = paired_gain(full, pseudo)
    loose = paired_gain(full, [with_videos_turned(run) for run in pseudo])
    assert np.isclose(paired.mean, loose.mean)
    assert loose.high - loose.low > 1.3 * (paired.high - paired.low)


def test_missing_seeds_are_left_out_and_said():
    gain = paired_gain(made('full', (0, 1, 3)), made('pseudo', (3, 1, 7)))
    assert sorted(gain.each) == [1, 3]
    assert gain.left_out == (0, 7)
    assert gain.how.startswith('2 seeds')


@pytest.mark.parametrize('seeds', [((), (0, 1, 2)), ((0, 1, 2), ()), ((0,), (1,))])
def test_methods_without_a_common_seed_are_refused(seeds):
    first, second = seeds
    with pytest.raises(DataError, match='no seed in common'):
        paired_gain(made('full', first), made('pseudo', second))


def test_a_gap_without_a_common_seed_is_refused():
    with pytest.raises(DataError, match='no seed in common'):
        gap_closed(made('full', (0,)), made('source', (1,)), made('oracle', (0,)))


def test_other_test_videos_are_refused():
    with pytest.raises(DataError, match='the same test videos'):
        paired_gain(made('full'), made('pseudo', n_videos=12))


def test_draws_are_of_the_right_size_and_repeat():
    videos, seeds = bootstrap_counts(3, 16, 500, 0)
    assert (videos.sum(1) == 16).all()
    assert (seeds.sum(1) == 3).all()
    assert np.array_equal(videos, bootstrap_counts(3, 16, 500, 0)[0])
    assert not np.array_equal(videos, bootstrap_counts(3, 16, 500, 1)[0])
    # On the average everything is drawn once.
    assert abs(videos.mean(0) - 1).max() < 0.2
    assert abs(seeds.mean(0) - 1).max() < 0.2


def plain_pck(run, group, video_counts):
    "PCK over the videos as they were drawn, one after another"
    drawn = [video for video in range(16) for _ in range(int(video_counts[video]))]
    rates = []
    for joint in members(run, group):
        hits = sum(run['test']['hits'][video][joint] for video in drawn)
        seen = sum(run['test']['seen'][video][joint] for video in drawn)
        rates.append(hits / seen)
    return 100 * sum(rates) / len(rates)


@pytest.mark.parametrize(
    'bench,group',
    [('hand', 'all'), ('hand', 'fin'), ('body', 'all_no_head'), ('body', 'head+wrist')],
)
def test_bootstrap_is_that_of_a_plain_loop(bench, group):
    full, regda = made('full', bench=bench), made('regda', bench=bench)
    n = 25
    means = []
    for videos, seeds in zip(*bootstrap_counts(3, 16, n, 5)):
        differences = []
        for seed in range(3):
            gain = plain_pck(full[seed], group, videos) - plain_pck(regda[seed], group, videos)
            differences += [gain] * int(seeds[seed])
        means.append(np.mean(differences))
    gain = paired_gain(full, regda, group, n=n, seed=5)
    assert np.allclose(np.percentile(means, [2.5, 97.5]), (gain.low, gain.high))


def test_drawn_pck_of_every_video_once_is_the_stored_one():
    run = made('full', bench='body')[0]
    for group, value in run['test']['pck'].items():
        once = np.ones((1, 16))
        assert pck_of_draws(run, group, once)[0] == pytest.approx(value, abs=1e-4)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    "Many benches of one seed, many videos: 95% intervals of the difference of two rates"
    random, inside = np.random.default_rng(0), 0
    seen = np.full((40, 3), 20)

    def run_of(rates, method):
        hits = random.binomial(seen, rates.clip(0, 1))
        test = dict(pck={}, hits=hits.tolist(), seen=seen.tolist())
        return dict(method=method, seed=0, joints=list('abc'), groups={}, test=test)

    for i in range(120):
        rates = random.uniform(0.3, 0.9, (40, 1))
        difference = 0.05 + 0.02 * random.standard_normal((40, 1))
        better = [run_of(rates + difference, 'a')]
        gain = paired_gain(better, [run_of(rates, 'b')], n=1000, seed=i)
        inside += gain.low <= 5 <= gain.high
    assert 0.86 <= inside / 120 <= 1


def test_a_joint_that_nobody_saw_does_not_count():
    run = copy.deepcopy(made('full')[0])
    unseen = 20
    for name in ('hits', 'seen'):
        for video in run['test'][name]:
            video[unseen] = 0
    run['test']['pck'] = {}
    joints = [joint for joint in members(run, 'fin') if joint != unseen]
    hits = np.array(run['test']['hits']).sum(0)[joints]
    seen = np.array(run['test']['seen']).sum(0)[joints]
    assert pck_from_counts(run, 'fin') == pytest.approx(100 * np.mean(hits / seen))
    assert np.isfinite(paired_gain([run], made('pseudo', (0,)), 'fin').high)


def test_metrics_without_counts_have_student_s_interval_and_one_seed_has_none():
    from scipy.stats import ttest_rel

    full, semihand = made('full', range(4)), made('semihand', range(4))
    gain = paired_gain(full, semihand, metric='epe3d')
    errors = [[run['test']['epe3d']['all'] for run in runs] for runs in (full, semihand)]
    scipys_interval = ttest_rel(*errors).confidence_interval(0.95)
    np.testing.assert_allclose(
        [gain.low, gain.high], [scipys_interval.low, scipys_interval.high], rtol=1e-9
    )
    alone = paired_gain(full[:1], semihand[:1], metric='epe3d')
    assert np.isnan(alone.low)
    assert not alone.excludes_zero
    assert '[' not in str(alone)
    assert 'no interval; one seed alone' in findings('5b', [*full[:1], *semihand[:1]])[0]


# The share of the gap


def test_gap_closed_at_its_ends_and_between():
    source, oracle, full = made('source'), made('oracle'), made('full')
    assert gap_closed(oracle, source, oracle).mean == pytest.approx(100)
    assert gap_closed(source, source, oracle).mean == 0
    share = gap_closed(full, source, oracle)
    gain, gap = paired_gain(full, source).mean, paired_gain(oracle, source).mean
    assert share.mean == pytest.approx(100 * gain / gap)
    assert share.low < share.mean < share.high
    with pytest.raises(DataError, match='points from the source'):
        gap_closed(full, oracle, source)


# Correlation


def test_correlation_against_known_values():
    x = np.arange(20.0)
    assert correlation(x, x**3).mean == pytest.approx(1)
    assert correlation(x, -x, 'pearson').mean == pytest.approx(-1)
    y = np.array([3, 1, 2, 2, 5.0])
    z = np.array([1, 2, 3, 3, 4.0])
    by_pandas = pd.Series(y).rank().corr(pd.Series(z).rank())
    assert correlation(y, z).mean == pytest.approx(by_pandas)
    with pytest.raises(DataError):
        correlation([1, 2, 3], [1, 2])


def test_correlation_of_independent_values_includes_zero():
    x, y = np.random.default_rng(0).standard_normal((2, 50))
    found = correlation(x, y)
    assert found.low < 0 < found.high


def test_runs_of_one_method_are_drawn_together():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 12))
    y += 0.4 * x
    repeated = np.repeat(np.arange(12), 20)
    together = correlation(x[repeated], y[repeated], n=400, clusters=repeated)
    apart = correlation(x[repeated], y[repeated], n=400)
    alone = correlation(x, y, n=400)
    widths = {
        name: found.high - found.low
        for name, found in dict(together=together, apart=apart, alone=alone).items()
    }
    assert widths['together'] > 2.5 * widths['apart']
    assert abs(widths['together'] - widths['alone']) < 0.25


def test_a_difference_of_benches_is_no_correlation():
    "Two clouds far apart, without a connection inside either"
    random = np.random.default_rng(1)
    n = 40
    bench_mean = np.r_[np.zeros(n), np.ones(n)]
    changes = pd.DataFrame(
        dict(
            bench=['a'] * n + ['b'] * n,
            method=[f'm{i % 10}' for i in range(2 * n)],
            seed=0,
            pck=30 * bench_mean + random.standard_normal(2 * n),
            coverage=bench_mean + 0.02 * random.standard_normal(2 * n),
        )
    )
    text = correlation_frame(changes).iloc[0]['spearman']
    low, high = map(float, text.split('[')[1].removesuffix(']').split(','))
    assert low < 0 < high
    assert float(text.split()[0]) < 0.3


def test_two_methods_are_no_sample():
    x = np.arange(12.0)
    found = correlation(x, x, n=50, clusters=['a', 'b'] * 6)
    assert found.mean == pytest.approx(1)
    assert np.isnan(found.low)


# Files


def test_loaded_runs_are_those_that_were_written(tmp_path):
    runs = runs_of_table_3()
    for run in runs:
        path = tmp_path / run['preset'] / run['bench'] / run['method'] / f"{run['seed']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run))
    loaded = load_runs(tmp_path)
    assert sorted(map(str, loaded)) == sorted(map(str, runs))
    (tmp_path / 'empty').mkdir()
    assert load_runs(tmp_path / 'empty') == []
    with pytest.raises(DataError, match='no such folder'):
        load_runs(tmp_path / 'none')
    assert [run['seed'] for run in find_runs(loaded, 'hand', 'full')] == [0, 1, 2]
    assert find_runs(loaded, 'body', 'full') == []
    assert find_runs(loaded, 'hand', 'full', dict(beta=5)) == []


@pytest.mark.parametrize(
    'change,found',
    [
        (lambda run: run.update(seed=1.5), 'seed is 1.5'),
        (lambda run: run.pop('test'), 'test is'),
        (lambda run: run['test'].pop('hits'), 'hits'),
        (lambda run: run['test']['hits'][0].pop(), 'hits'),
        (lambda run: run['test']['hits'][0].__setitem__(0, 10**6), 'no counts'),
        (lambda run: run['test']['hits'][0].__setitem__(0, -1), 'no counts'),
        (lambda run: run['test']['hits'][0].__setitem__(0, 0.5), 'no counts'),
        (lambda run: run['test']['pck'].update(all=1.0), "pck of 'all'"),
        (lambda run: run['groups'].update(toe=[40]), "group 'toe'"),
        (lambda run: run.update(epochs=[1]), r'epochs\[0\]'),
        (lambda run: run['test']['pck'].update(all=None), 'no finite'),
    ],
)
def test_a_damaged_run_is_named(tmp_path, change, found):
    run = made('full')[0]
    change(run)
    path = tmp_path / '0.json'
    path.write_text(json.dumps(run))
    with pytest.raises(DataError, match=found) as error:
        load_runs(tmp_path)
    assert str(path) in str(error.value)


def test_changes_are_compared_by_value():
    tuples = dict(stride=(1, 5), decay=None)
    lists = dict(decay=None, stride=[1, 5.0])
    assert changes_key(tuples) == changes_key(lists)
    assert changes_key(dict(split_bn=False)) != changes_key(dict(split_bn=0))
    assert changes_key({}) == changes_key(None)


# Tables


@pytest.mark.parametrize('table', TABLES.values(), ids=list(TABLES))
def test_every_run_that_is_needed_belongs_to_a_row_and_is_missed(table):
    runs = [(bench, method, changes_key(c), seed) for bench, method, c, seed in needed(table)]
    assert len(runs) == len(set(runs)) == len(missing(table, []))
    of_rows = {(row.bench, row.method, changes_key(row.changes)) for row in table.rows}
    assert of_rows == {run[:3] for run in runs}
    rows = {(row.bench, row.method, row.changes) for row in table.rows}
    for pair in table.pairs:
        assert all((row.bench, row.method, row.changes) in rows for row in pair)
    assert set(table.groups) >= set(table.benches)


def test_unknown_tables_are_refused():
    with pytest.raises(ConfigError):
        get_tables('9')


@pytest.mark.parametrize('name', TABLES)
def test_a_table_without_runs_is_dashes(name):
    frame = table_frame(name, [])
    assert set(frame['seeds']) == {'0/3'}
    figures = frame.drop(columns=[column for column in ('seeds', 'bench') if column in frame])
    assert set(figures.values.ravel()) <= {'-'}
    assert '0 of' in status_text(name, [])
    assert format_table_text(name, [])
    assert table_html(name, [])


def test_tables_say_what_is_missing():
    runs = [run for run in runs_of_table_3() if (run['method'], run['seed']) != ('full', 1)]
    frame = table_frame('3a', runs)
    assert frame.loc['+ reconstruction', 'seeds'] == '2/3'
    assert frame.loc['integrated labels', 'seeds'] == '3/3'
    assert 'missing seed 1' in status_text('3a', runs)
    unchanged = [(method, seed) for _, method, changes, seed in missing('3a', runs) if not changes]
    assert unchanged == [('full', 1)]


def test_table_holds_means_and_deviations_of_its_runs():
    runs = runs_of_table_3()
    frame = table_frame('3a', runs)
    for label, method in {'+ reconstruction': 'full', 'L_UniFrame': 'uniframe'}.items():
        for group in ('mcp', 'fin', 'all'):
            values = [run['test']['pck'][group] for run in find_runs(runs, 'hand', method)]
            text = f'{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}'
            assert frame.loc[label, group] == text
    gain = paired_gain(find_runs(runs, 'hand', 'full'), find_runs(runs, 'hand', 'source'))
    assert frame.loc['+ reconstruction', 'gain over source only'] == str(gain)
    assert 'selected on test labels' in format_table_text('3a', runs)


def test_raw_results_agree_with_the_table(tmp_path):
    runs = runs_of_table_3()
    path = write_csv('3a', runs, csv_path('3a', tmp_path))
    assert csv_agrees('3a', runs, path)
    assert not csv_agrees('3a', runs[3:] + made('full', (5,)), path)
    overall = []
    with path.open() as file:
        for line in csv.DictReader(file):
            if (line['method'], line['metric'], line['group']) == ('full', 'pck', 'all'):
                overall.append(float(line['value']))
    assert overall == [run['test']['pck']['all'] for run in find_runs(runs, 'hand', 'full')]
    assert 'agrees' in check_tables('3a', runs, tmp_path)
    path.write_text(path.read_text().replace(str(overall[0]), '99.0'))
    with pytest.raises(DataError, match='differs from the runs'):
        check_tables('3a', runs, tmp_path)


def test_sentences_agree_with_gains():
    runs = runs_of_table_3()
    tested, sentences = gains('3a', runs), findings('3a', runs)
    assert len(tested) == len(sentences) == 5
    for (label, gain), sentence in zip(tested.items(), sentences):
        assert sentence.startswith(f'{label}: {gain.mean:+.1f} points')
        assert ('excludes zero' in sentence) == gain.excludes_zero


def test_runs_of_different_options_are_not_averaged():
    runs = made('semihand')
    for run in runs:
        run['options'] = {'keep': 0.8} if run['seed'] else {}
    with pytest.raises(DataError, match='different options.*keep'):
        table_frame('1', runs)


def test_runs_that_do_not_fit_together_are_no_missing_runs():
    "Another number of test videos is an error, not a dash"
    runs = made('source', (0,), n_videos=12) + made('full', (0,)) + made('oracle', (0,))
    with pytest.raises(DataError, match='videos and joints'):
        table_frame('1', runs)


def test_gains_over_fewer_seeds_say_so():
    runs = made('full') + made('source', (0, 1)) + made('oracle', (0, 1))
    row = table_frame('1', runs).loc['ours']
    assert row['gain over source only'].endswith('(2 seeds)')
    assert row['gap closed'].endswith('(2 seeds)')
    assert row['seeds'] == '3/3'


# Questions, and the bars that the project set itself


def moved_by(run, percent):
    "A run with so many more hits"
    run = copy.deepcopy(run)
    hits, seen = (np.array(run['test'][name]) for name in ('hits', 'seen'))
    more = np.round(seen * percent / 100).astype(int)
    run['test']['hits'] = np.clip(hits + more, 0, seen).tolist()
    run['test']['pck'] = {}
    groups = (*run['groups'], 'all')
    run['test']['pck'] = {group: pck_from_counts(run, group) for group in groups}
    return run


def test_expectations_need_the_interval():
    "A mean above the bar is not enough where the interval holds zero"
    full = []
    for run, percent in zip(made('pseudo'), (30, -22, 3)):
        full.append(moved_by(dict(run, method='full'), percent))
    runs = made('source') + made('oracle') + made('pseudo') + full
    question = method_questions(runs, 'hand', HAND_METHODS)[2]
    assert question.text == 'hand: reconstruction, overall'
    gain = answer(question, runs)
    assert gain == paired_gain(full, made('pseudo'))
    assert gain.mean > 2
    assert gain.low < 0
    assert verdict(question, gain) == 'no'


def test_nothing_measured_is_nothing_said():
    for question in method_questions([], 'hand', HAND_METHODS):
        assert verdict(question, answer(question, [])) == '-'


def test_an_oracle_below_its_source_is_said():
    runs = []
    for method, rate in dict(source=0.8, oracle=0.5, full=0.6).items():
        runs += made(method, (0, 1), rate=rate)
    assert table_frame('1', runs).loc['ours', 'gap closed'] == 'no gap'
    assert gap_frame('1', runs).loc['ours', 'fin'] == 'no gap'
    question = method_questions(runs, 'hand', HAND_METHODS)[1]
    assert question.text == 'hand: share of the gap closed'
    assert answer(question, runs) == 'no gap'
    assert verdict(question, 'no gap') == 'no'


# What the repository holds


def test_results_in_the_repository_are_whole():
    root = Path(__file__).resolve().parents[1] / 'results' / 'tables'
    runs = load_runs(root / 'runs')
    invented = [run for run in runs if 'made up' in str(run.get('torch'))]
    assert not invented, 'made-up runs belong into tests only'
    for name in TABLES:
        check_tables(name, runs, root)
