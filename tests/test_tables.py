"Statistics of the tables: what must hold for any runs, and that tables, raw results and sentences say the same."

import csv, itertools, json
import numpy as np, pandas as pd, pytest
from pathlib import Path
from geomrecon.core.errors import ConfigError, DataError
from geomrecon.core.skeleton import BODY16, HAND21
from geomrecon.paper.records import *
from geomrecon.paper.statistics import *
from geomrecon.paper.specification import *
from geomrecon.paper.tables import *
from geomrecon.paper.raw import *
from geomrecon.paper.findings import *
from geomrecon.paper.plots import *
from geomrecon.paper.label_free import *
from geomrecon.paper.provenance import *
from geomrecon.paper.statistics import _draws, _pck_draws
from geomrecon.paper.records import _frozen

sks = dict(hand=HAND21, body=BODY16)


def made(method, seeds=(0, 1, 2), bench='hand', **kw):
    return [made_up_run(method, s, sks[bench.split('-')[0]], bench, **kw) for s in seeds]


def same_runs():
    return [
        r
        for m in (
            'source',
            'aligned',
            'uniframe',
            'pseudo2d',
            'pseudo',
            'heatmap',
            'full',
            'oracle',
        )
        for r in made(m)
    ]


groups = ['all', 'fin', 'wrist', 'mcp+fin']

# Paired gains


@pytest.mark.parametrize('group', groups)
def test_gain_against_itself_is_zero(group):
    g = paired_gain(made('full'), made('full'), group)
    assert (
        (g.mean, g.sd, g.low, g.high) == (0, 0, 0, 0)
        and not g.excludes_zero
        and set(g.each.values()) == {0.0}
    )


@pytest.mark.parametrize('group', groups)
def test_gain_turns_its_sign_with_its_arguments(group):
    a, b = made('full'), made('pseudo')
    g = paired_gain(a, b, group)
    h = paired_gain(b, a, group)
    assert (
        g.mean == -h.mean
        and np.allclose((g.low, g.high), (-h.high, -h.low))
        and g.low <= g.mean <= g.high
    )


def test_gains_add_up():
    a = made('full')
    b = made('pseudo')
    c = made('source')
    assert np.isclose(paired_gain(a, c).mean, paired_gain(a, b).mean + paired_gain(b, c).mean)


@pytest.mark.parametrize('order', list(itertools.permutations(range(3))))
def test_order_of_runs_does_not_matter(order):
    a, b = made('full'), made('uniframe')
    g = paired_gain(a, b)
    assert paired_gain([a[i] for i in order], b[::-1]) == g
    assert g.each == {
        s: pytest.approx(a[s]['test']['pck']['all'] - b[s]['test']['pck']['all']) for s in range(3)
    }


def test_pairing_makes_the_interval_shorter():
    "The same videos for both: an effect of the video cancels"
    a = made('full', n_videos=16)
    b = made('pseudo', n_videos=16)
    paired = paired_gain(a, b)
    turned = [
        dict(
            r,
            test=dict(
                r['test'],
                hits=r['test']['hits'][8:] + r['test']['hits'][:8],
                seen=r['test']['seen'][8:] + r['test']['seen'][:8],
            ),
        )
        for r in b
    ]
    loose = paired_gain(a, turned)
    assert np.isclose(paired.mean, loose.mean) and loose.high - loose.low > 1.3 * (
        paired.high - paired.low
    )


def test_missing_seeds_are_left_out_and_said():
    g = paired_gain(made('full', (0, 1, 3)), made('pseudo', (3, 1, 7)))
    assert sorted(g.each) == [1, 3] and g.left_out == (0, 7) and g.how.startswith('2 seeds')
    for a, b in (
        ([], made('full')),
        (made('full'), []),
        (made('full', (0,)), made('pseudo', (1,))),
    ):
        with pytest.raises(DataError, match='no seed in common'):
            paired_gain(a, b)
    with pytest.raises(DataError, match='no seed in common'):
        gap_closed(made('full', (0,)), made('source', (1,)), made('oracle', (0,)))


def test_other_test_videos_are_refused():
    with pytest.raises(DataError, match='the same test videos'):
        paired_gain(made('full'), made('pseudo', n_videos=12))


def test_draws_are_of_the_right_size_and_repeat():
    W, C = _draws(3, 16, 500, 0)
    assert (
        (W.sum(1) == 16).all()
        and (C.sum(1) == 3).all()
        and np.array_equal(W, _draws(3, 16, 500, 0)[0])
        and not np.array_equal(W, _draws(3, 16, 500, 1)[0])
    )
    assert abs(W.mean(0) - 1).max() < 0.2 and abs(C.mean(0) - 1).max() < 0.2


@pytest.mark.parametrize(
    'bench,group',
    [('hand', 'all'), ('hand', 'fin'), ('body', 'all_no_head'), ('body', 'head+wrist')],
)
def test_bootstrap_is_that_of_a_plain_loop(bench, group):
    a = made('full', bench=bench)
    b = made('regda', bench=bench)
    n = 25
    W, C = _draws(3, 16, n, 5)
    out = []

    def pck(r, w):  # over the videos as they were drawn, one after another
        drawn = [v for v in range(16) for _ in range(int(w[v]))]
        js = members(r, group)
        rate = [
            sum(r['test']['hits'][v][j] for v in drawn)
            / sum(r['test']['seen'][v][j] for v in drawn)
            for j in js
        ]
        return 100 * sum(rate) / len(rate)

    for w, c in zip(W, C):
        seeds = [s for s in range(3) for _ in range(int(c[s]))]
        out.append(np.mean([pck(a[s], w) - pck(b[s], w) for s in seeds]))
    g = paired_gain(a, b, group, n=n, seed=5)
    assert np.allclose(np.percentile(out, [2.5, 97.5]), (g.low, g.high))


def test_drawn_pck_of_every_video_once_is_the_stored_one():
    r = made('full', bench='body')[0]
    for g, v in r['test']['pck'].items():
        assert _pck_draws(r, g, np.ones((1, 16)))[0] == pytest.approx(v, abs=1e-4)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    "Many benches of one seed, many videos: 95% intervals of the difference of two rates"
    rng, inside = np.random.default_rng(0), 0
    for i in range(120):
        p = rng.uniform(0.3, 0.9, (40, 1))
        d = 0.05 + 0.02 * rng.standard_normal((40, 1))
        seen = np.full((40, 3), 20)
        run = lambda q, m: dict(
            method=m,
            seed=0,
            joints=list('abc'),
            groups={},
            test=dict(pck={}, hits=rng.binomial(seen, q.clip(0, 1)).tolist(), seen=seen.tolist()),
        )
        g = paired_gain([run(p + d, 'a')], [run(p, 'b')], n=1000, seed=i)
        inside += g.low <= 5 <= g.high
    assert 0.86 <= inside / 120 <= 1


def test_a_joint_that_nobody_saw_does_not_count():
    r = made('full')[0]
    t = json.loads(json.dumps(r['test']))
    for k in ('hits', 'seen'):
        for v in t[k]:
            v[20] = 0
    r = dict(r, test=dict(t, pck={}))
    js = [j for j in members(r, 'fin') if j != 20]
    h, s = (np.array(t[k]).sum(0)[js] for k in ('hits', 'seen'))
    assert pck_from_counts(r, 'fin') == pytest.approx(100 * np.mean(h / s))
    assert np.isfinite(paired_gain([r], [made('pseudo', (0,))[0]], 'fin').high)


# The share of the gap


def test_gap_closed_at_its_ends_and_between():
    src, top = made('source'), made('oracle')
    assert (
        gap_closed(top, src, top).mean == pytest.approx(100) and gap_closed(src, src, top).mean == 0
    )
    g = gap_closed(made('full'), src, top)
    d = lambda a, b: paired_gain(a, b).mean
    assert (
        g.mean == pytest.approx(100 * d(made('full'), src) / d(top, src))
        and g.low < g.mean < g.high
    )
    with pytest.raises(DataError, match='points from the source'):
        gap_closed(made('full'), top, src)


# Correlation


def test_correlation_against_known_values():
    x = np.arange(20.0)
    assert correlation(x, x**3).mean == pytest.approx(1) and correlation(
        x, -x, 'pearson'
    ).mean == pytest.approx(-1)
    y = np.array([3, 1, 2, 2, 5.0])
    z = np.array([1, 2, 3, 3, 4.0])
    ref = pd.Series(y).rank().corr(pd.Series(z).rank())
    assert correlation(y, z).mean == pytest.approx(ref)
    a, b = np.random.default_rng(0).standard_normal((2, 50))
    c = correlation(a, b)
    assert c.low < 0 < c.high
    with pytest.raises(DataError):
        correlation([1, 2, 3], [1, 2])


# Files


def test_loaded_runs_are_those_that_were_written(tmp_path):
    rs = same_runs()
    for r in rs:
        p = tmp_path / r['preset'] / r['bench'] / r['method'] / f"{r['seed']}.json"
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_text(json.dumps(r))
    got = load_runs(tmp_path)
    assert sorted(map(str, got)) == sorted(map(str, rs)) and load_runs(tmp_path / 'empty') == []
    assert (
        [r['seed'] for r in find_runs(got, 'hand', 'full')] == [0, 1, 2]
        and find_runs(got, 'body', 'full') == []
        and find_runs(got, 'hand', 'full', dict(beta=5)) == []
    )


@pytest.mark.parametrize(
    'change,found',
    [
        (lambda r: r.update(seed=1.5), 'seed is 1.5'),
        (lambda r: r.pop('test'), 'test is'),
        (lambda r: r['test'].pop('hits'), 'hits'),
        (lambda r: r['test']['hits'][0].pop(), 'hits'),
        (lambda r: r['test']['hits'][0].__setitem__(0, 10**6), 'no counts'),
        (lambda r: r['test']['hits'][0].__setitem__(0, -1), 'no counts'),
        (lambda r: r['test']['hits'][0].__setitem__(0, 0.5), 'no counts'),
        (lambda r: r['test']['pck'].update(all=1.0), "pck of 'all'"),
        (lambda r: r['groups'].update(toe=[40]), "group 'toe'"),
        (lambda r: r.update(epochs=[1]), r'epochs\[0\]'),
        (lambda r: r['test']['pck'].update(all=None), 'no finite'),
    ],
)
def test_a_damaged_run_is_named(tmp_path, change, found):
    r = made('full')[0]
    change(r)
    p = tmp_path / '0.json'
    p.write_text(json.dumps(r))
    with pytest.raises(DataError, match=found) as e:
        load_runs(tmp_path)
    assert str(p) in str(e.value)


def test_changes_are_compared_by_value():
    assert (
        _frozen(dict(stride=(1, 5), decay=None)) == _frozen(dict(decay=None, stride=[1, 5.0]))
        and _frozen(dict(split_bn=False)) != _frozen(dict(split_bn=0))
        and _frozen({}) == _frozen(None)
    )


# Tables


def test_every_run_that_is_needed_belongs_to_a_row_and_is_missed():
    for t in TABLES.values():
        need = needed(t)
        assert (
            len(need) == len({(b, m, _frozen(c), s) for b, m, c, s in need}) == len(missing(t, []))
        )
        assert {(r.bench, r.method, _frozen(r.changes and dict(r.changes))) for r in t.rows} == {
            (b, m, _frozen(c)) for b, m, c, _ in need
        }
        rows = {(r.bench, r.method, r.changes) for r in t.rows}
        assert all((r.bench, r.method, r.changes) in rows for p in t.pairs for r in p), t.name
        assert set(t.groups) >= set(t.benches)
    with pytest.raises(ConfigError):
        get_tables('9')


def test_tables_say_what_is_missing():
    rs = [r for r in same_runs() if (r['method'], r['seed']) != ('full', 1)]
    df = table_frame('3a', rs)
    assert (
        df.loc['+ reconstruction', 'seeds'] == '2/3'
        and df.loc['integrated labels', 'seeds'] == '3/3'
    )
    for t in TABLES:
        df = table_frame(t, [])
        assert set(df['seeds']) == {'0/3'} and set(
            df.drop(columns=['seeds', *(['bench'] if 'bench' in df else [])]).values.ravel()
        ) <= {'-'}
        assert '0 of' in status_text(t, [])
        assert format_table_text(t, []) and table_html(t, [])
    assert 'missing seed 1' in status_text('3a', rs) and [
        (m, s) for _, m, c, s in missing('3a', rs) if not c
    ] == [('full', 1)]


def test_table_holds_means_and_deviations_of_its_runs():
    rs = same_runs()
    df = table_frame('3a', rs)
    for label, m in (('+ reconstruction', 'full'), ('L_UniFrame', 'uniframe')):
        for g in ('mcp', 'fin', 'all'):
            x = [r['test']['pck'][g] for r in find_runs(rs, 'hand', m)]
            assert df.loc[label, g] == f'{np.mean(x):.1f} ± {np.std(x, ddof=1):.1f}'
    assert df.loc['+ reconstruction', 'gain over source only'] == str(
        paired_gain(find_runs(rs, 'hand', 'full'), find_runs(rs, 'hand', 'source'))
    )
    assert any('selected on test labels' in l for l in format_table_text('3a', rs).split('\n'))


def test_raw_results_agree_with_the_table(tmp_path):
    rs = same_runs()
    p = write_csv('3a', rs, csv_path('3a', tmp_path))
    rows = list(csv.DictReader(p.open()))
    assert csv_agrees('3a', rs, p) and not csv_agrees('3a', rs[3:] + made('full', (5,)), p)
    x = [
        float(r['value'])
        for r in rows
        if (r['method'], r['metric'], r['group']) == ('full', 'pck', 'all')
    ]
    assert x == [r['test']['pck']['all'] for r in find_runs(rs, 'hand', 'full')]
    assert 'agrees' in check_tables('3a', rs, tmp_path)
    p.write_text(p.read_text().replace(str(x[0]), '99.0'))
    with pytest.raises(DataError, match='differs from the runs'):
        check_tables('3a', rs, tmp_path)


def test_sentences_agree_with_gains():
    rs = same_runs()
    gs = gains('3a', rs)
    ss = findings('3a', rs)
    assert len(gs) == len(ss) == 5
    for (k, g), s in zip(gs.items(), ss):
        assert (
            s.startswith(f'{k}: {g.mean:+.1f} points') and ('excludes zero' in s) == g.excludes_zero
        )


def test_expectations_need_the_interval():
    "A mean above the bar is not enough where the interval holds zero"
    lucky = [r for m in ('source', 'oracle', 'pseudo') for r in made(m)]
    full = [dict(r, method='full') for r in made('pseudo')]
    for r, d in zip(full, (30, -22, 3)):
        t = json.loads(json.dumps(r['test']))
        h, s = np.array(t['hits']), np.array(t['seen'])
        t['hits'] = np.clip(h + np.round(s * d / 100).astype(int), 0, s).tolist()
        r['test'] = dict(t, pck={})
        r['test']['pck'] = {g: pck_from_counts(r, g) for g in (*r['groups'], 'all')}
    df = expectations(lucky + full)
    g = paired_gain(full, made('pseudo'))
    assert (
        g.mean > 2
        and g.low < 0
        and df.loc['hand: reconstruction worth at least +2 overall', 'holds'] == 'no'
    )
    assert set(expectations([])['holds']) == {'-'}


# What the repository holds


def test_results_in_the_repository_are_whole():
    root = Path(__file__).resolve().parents[1] / 'results' / 'tables'
    runs = load_runs(root / 'runs')
    assert not any('made up' in str(r.get('torch')) for r in runs), (
        'made-up runs belong into tests only'
    )
    for t in TABLES:
        check_tables(t, runs, root)


def test_metrics_without_counts_have_student_s_interval_and_one_seed_has_none():
    from scipy.stats import ttest_rel

    a, b = ([made_up_run(m, s, HAND21) for s in range(4)] for m in ('full', 'semihand'))
    g = paired_gain(a, b, metric='epe3d')
    x, y = ([r['test']['epe3d']['all'] for r in q] for q in (a, b))
    ci = ttest_rel(x, y).confidence_interval(0.95)
    np.testing.assert_allclose([g.low, g.high], [ci.low, ci.high], rtol=1e-9)
    one = paired_gain(a[:1], b[:1], metric='epe3d')
    assert np.isnan(one.low) and not one.excludes_zero and '[' not in str(one)
    assert 'no interval; one seed alone' in findings('5b', [*a[:1], *b[:1]])[0]


def test_runs_of_different_options_are_not_averaged():
    runs = [
        dict(made_up_run('semihand', s, HAND21), options={'keep': 0.8} if s else {})
        for s in range(3)
    ]
    with pytest.raises(DataError, match="different options.*keep"):
        table_frame('1', runs)


def test_an_oracle_below_its_source_is_said():
    runs = [
        made_up_run(m, s, HAND21, rate=r)
        for m, r in (('source', 0.8), ('oracle', 0.5), ('full', 0.6))
        for s in range(2)
    ]
    assert (
        table_frame('1', runs).loc['ours', 'gap closed'] == 'no gap'
        and gap_frame('1', runs).loc['ours', 'fin'] == 'no gap'
    )
    assert expectations(runs).loc['hand: at least 60% of the gap closed'].tolist()[:2] == [
        'no gap',
        'no',
    ]


def test_runs_that_do_not_fit_together_are_no_missing_runs():
    "Another number of test videos is an error, not a dash"
    runs = [
        made_up_run('source', 0, HAND21, n_videos=12),
        made_up_run('full', 0, HAND21),
        made_up_run('oracle', 0, HAND21),
    ]
    with pytest.raises(DataError, match='videos and joints'):
        table_frame('1', runs)


def test_gains_over_fewer_seeds_say_so():
    runs = [made_up_run('full', s, HAND21) for s in range(3)] + [
        made_up_run(m, s, HAND21) for m in ('source', 'oracle') for s in range(2)
    ]
    row = table_frame('1', runs).loc['ours']
    assert (
        row['gain over source only'].endswith('(2 seeds)')
        and row['gap closed'].endswith('(2 seeds)')
        and row['seeds'] == '3/3'
    )


def test_runs_of_one_method_are_drawn_together():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))
    y += 0.4 * x
    many = np.repeat(np.arange(12), 20)
    wide, narrow = (correlation(x[many], y[many], n=400, clusters=c) for c in (many, None))
    alone = correlation(x, y, n=400)
    assert (
        wide.high - wide.low > 2.5 * (narrow.high - narrow.low)
        and abs((wide.high - wide.low) - (alone.high - alone.low)) < 0.25
    )


def test_a_difference_of_benches_is_no_correlation():
    "Two clouds far apart, without a connection inside either"
    rng = np.random.default_rng(1)
    n = 40
    q = pd.DataFrame(
        dict(
            bench=['a'] * n + ['b'] * n,
            method=[f'm{i % 10}' for i in range(2 * n)],
            seed=0,
            pck=np.r_[np.zeros(n), 30 * np.ones(n)] + rng.standard_normal(2 * n),
            coverage=np.r_[np.zeros(n), np.ones(n)] + 0.02 * rng.standard_normal(2 * n),
        )
    )
    c = correlation_frame(q).iloc[0]['spearman']
    lo, hi = (float(v) for v in c.split('[')[1][:-1].split(','))
    assert lo < 0 < hi and float(c.split()[0]) < 0.3


def test_two_methods_are_no_sample():
    x = np.arange(12.0)
    c = correlation(x, x, n=50, clusters=['a', 'b'] * 6)
    assert c.mean == pytest.approx(1) and np.isnan(c.low)
