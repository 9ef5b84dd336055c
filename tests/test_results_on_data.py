"Tables on data sets in place of the rendered benches: the same command, the same functions, the same notebooks."

import json, os, re, subprocess, sys
from pathlib import Path
import cv2, numpy as np, pytest, torch
from geomrecon.readers.label_coco import write_coco
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.core.errors import ConfigError, DataError
from geomrecon.paper.benches import Bench, open_bench, spec
from geomrecon.paper.work import finished, work_on
from geomrecon.paper.training import open_stage
from geomrecon.paper.command import results
from geomrecon.paper.search import search_specs
from geomrecon.core.geometry import to_pixels
from geomrecon.learn.presets import PRESETS, get_preset
from geomrecon.core.skeleton import MOUSE4
from geomrecon.paper.records import *
from geomrecon.paper.statistics import *
from geomrecon.paper.specification import *
from geomrecon.paper.tables import *
from geomrecon.paper.raw import *
from geomrecon.paper.findings import *
from geomrecon.paper.plots import *
from geomrecon.paper.label_free import *
from geomrecon.paper.provenance import *

ROOT = Path(__file__).parents[1]
QUICK = get_preset(
    'tiny-2d',
    name='quick-data',
    restyle='stylenet',
    style_widths=(8, 16),
    steps=2,
    epochs=1,
    align_epochs=1,
    adapt_epochs=2,
    style_epochs=1,
    style_encoder_epochs=1,
    bs=8,
    adapt_bs=4,
    adapt_bs_target=4,
    style_bs=4,
    width=0.25,
    warp_width=8,
    gen_width=8,
    gen_res=1,
    rec_attach=1.0,
    stride=(1, 3),
    gamma=0.0,
)
MADE = [
    'source',
    'aligned',
    'bn',
    'control',
    'pseudo',
    'pseudo2d',
    'full',
    'uniframe',
    'oracle',
    'pseudo>full',
]
NOT = {'semihand': 'ConfigError: semihand: a net without depth maps', 'dualnet': 'no depth images'}


def write(folder, ds, folders=False):
    "Labelled pictures as COCO has them, `folders` for a folder per video; what the command line calls them"
    b = ds.batch(np.arange(len(ds)))
    names = (
        [f'v{v}/{i:03d}.png' for v, i in zip(ds.video_id, ds.frame)]
        if folders
        else [f'{i:03d}.png' for i in range(len(ds))]
    )
    for n, x in zip(names, b['image']):
        (folder / n).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / n), x.permute(1, 2, 0).numpy()[..., ::-1])
    write_coco(
        folder / 'labels.json', names, to_pixels(b['keypoints'], 64).numpy(), MOUSE4, (64, 64)
    )
    return f'coco:{folder}/labels.json?crop=whole&skeleton=mouse' + '&video=folder' * folders


class Some:
    "The first `n` of an endless source"

    def __init__(self, ds, n):
        self.ds = ds
        self.n = n

    def __len__(self):
        return self.n

    def batch(self, i):
        return self.ds.batch(i)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    d = tmp_path_factory.mktemp('data')
    video = lambda n, part: PuppetVideos(MOUSE4, n, 8, 64, 'real', seed=0, split=part)
    return d, dict(
        source=write(d / 'source', Some(PuppetImages(MOUSE4, 1000, 64, 'synthetic', seed=0), 40)),
        target=write(d / 'target', video(3, 'train'), True),
        test=write(d / 'test', video(3, 'test'), True),
    )


@pytest.fixture(scope='module')
def made(data):
    "Runs of most methods on it, made by the list that the command makes"
    d, parts = data
    told = []
    bench = Bench('figures', **parts)
    kw = dict(results=d / 'runs', work=d / 'work')
    n = work_on(
        [
            spec(bench, m, s, {}, QUICK)
            for s, ms in ((0, [*NOT, *MADE]), (1, ('source', 'pseudo', 'full')))
            for m in ms
        ],
        **kw,
        tell=told.append,
    )
    return n, told, bench, kw


@pytest.fixture
def moved(made, monkeypatch):
    "The environment of somebody who looks at them"
    for k, v in dict(BENCH='figures', PRESET='quick-data', RUNS=str(made[3]['results'])).items():
        monkeypatch.setenv(f'GEOMRECON_{k}', v)
    return load_runs(usual_runs())


def test_what_can_be_made_is_made_and_the_rest_is_said(made):
    n, told, bench, kw = made
    assert n == len(MADE) + 3 == len(told) - len(NOT)
    for line, (m, why) in zip(told[-len(NOT) :], NOT.items()):
        assert f'/{m}/0.json: could not be made: ' in line and why in line
    assert (
        all(finished(spec(bench, m, 0, {}, QUICK), kw['results']) for m in MADE)
        and work_on([spec(bench, m, 0, {}, QUICK) for m in MADE], **kw) == 0
    )


def test_other_mistakes_stop_the_list(made, monkeypatch):
    import geomrecon.evidence as e

    monkeypatch.setattr(e, 'train_run', lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work_on([spec(made[2], 'regda', 0, {}, QUICK)], **made[3])


def test_training_cannot_reach_the_target_s_labels(made):
    st = open_stage(spec(made[2], 'full', 0, {}, QUICK), made[3]['work'])
    fr = st.task.frames
    assert st.task.quality is None and st.valid is None and len(st.truth) == len(fr) == 24
    assert not any(
        hasattr(fr, k) for k in ('keypoints', 'px', 'visible', 'joints3d', 'batch', 'labels')
    ) and not any(
        'px' in vars(v) or 'keypoints' in vars(v)
        for v in vars(fr).values()
        if hasattr(v, '__dict__')
    )
    assert torch.equal(
        fr.images([0, 9, 23]), st.truth.batch([0, 9, 23])['image']
    )  # The very same frames, for the oracle


def test_same_weights_whatever_the_target_s_labels_say(data, made, tmp_path):
    "The target's labels moved by up to half the picture: the full method's net is the same, the oracle's is not"
    d, parts = data
    f = d / 'target' / 'labels.json'
    old = f.read_text()
    j = json.loads(old)
    r = np.random.default_rng(0)
    for a in j['annotations']:
        a['keypoints'] = [
            v if i % 3 == 2 else float(r.uniform(0, 63)) for i, v in enumerate(a['keypoints'])
        ]
    try:
        f.write_text(json.dumps(j))
        work_on(
            [spec(made[2], m, 0, {}, QUICK) for m in ('full', 'oracle')],
            tmp_path / 'runs',
            tmp_path / 'work',
        )
    finally:
        f.write_text(old)
    net = lambda w, m: torch.load(
        w / 'quick-data/figures/0' / spec(made[2], m, 0, {}, QUICK).room / 'run.ckpt',
        weights_only=True,
    )['model']
    same = lambda m: all(
        torch.equal(a, b)
        for a, b in zip(net(made[3]['work'], m).values(), net(tmp_path / 'work', m).values())
    )
    assert same('full') and not same('oracle')


def test_a_target_without_the_source_s_joints_has_no_oracle(data, made, tmp_path):
    d, parts = data
    j = json.loads((d / 'target' / 'labels.json').read_text())
    j['categories'][0]['keypoints'] = list('abcd')
    (d / 'target' / 'other.json').write_text(json.dumps(j))
    bench = Bench(
        'strangers', **dict(parts, target=f'coco:{d}/target/other.json?crop=whole&video=folder')
    )
    told = []
    assert (
        work_on(
            [spec(bench, m, 0, {}, QUICK) for m in ('oracle', 'pseudo>full', 'pseudo')],
            tmp_path / 'runs',
            tmp_path / 'work',
            tell=told.append,
        )
        == 1
    )
    assert (
        len(told) == 3
        and all("no labels of its training frames" in t for t in told[1:])
        and load_runs(tmp_path / 'runs')[0]['labels'] == []
    )


def test_the_search_needs_a_part_to_validate_on(data, made, tmp_path):
    with pytest.raises(ConfigError, match='--valid'):
        search_specs(['full'], made[2], preset=QUICK)
    bench = Bench('searched', valid=data[1]['test'], **data[1])
    todo = search_specs(['full'], bench, preset=QUICK)
    kw = dict(results=tmp_path / 'runs', work=tmp_path / 'work')
    assert (
        len(todo) == 3
        and work_on(todo[:1], **kw) == 1
        and finished(todo[0], kw['results'])['valid']['pck']
        == finished(todo[0], kw['results'])['test']['pck']
        and load_runs(kw['results']) == []
    )


def test_other_data_under_the_same_name_is_refused(data, made):
    other = Bench('figures', **dict(data[1], test=data[1]['target']))
    with pytest.raises(DataError, match='made from'):
        finished(spec(other, 'full', 0, {}, QUICK), made[3]['results'])


def test_the_command(data, made, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, 'quick-data', QUICK)
    d, parts = data
    left = results(
        '3a',
        seeds=[0],
        preset='quick-data',
        bench='figures',
        folder=d / 'runs',
        work=d / 'work',
        **parts,
    )
    out = capsys.readouterr().out
    assert (
        left == 4
        and '6 of 10 runs (quick-data)' in out
        and 'figures: ' in out
        and '--bench figures' in out
        and 'hand:' not in out
        and 'heatmap' in out
    )


def test_tables_are_those_of_the_data(moved):
    assert {b for b, *_ in needed('all')} == {'figures'} and all(
        t.benches == ['figures'] for t in get_tables('all')
    )
    df = table_frame('1', moved)
    assert (
        df.loc['ours', 'seeds'] == '2/3'
        and df.loc['CC-SSL', 'seeds'] == '0/3'
        and {'snout', 'ears', 'tailbase', 'all'} <= set(df.columns)
        and 'mcp' not in df
    )
    x = [r['test']['pck']['all'] for r in find_runs(moved, 'figures', 'full')]
    assert len(x) == 2 and df.loc['ours', 'all'] == f'{np.mean(x):.1f} ± {np.std(x, ddof=1):.1f}'
    assert (
        table_frame('2', moved).loc['ours', 'seeds'] == '2/3'
        and table_frame('3b', moved).loc['ours', 'selected, last 3 epochs, %'] != '-'
        and table_frame('3c', moved)['before, %'].iloc[0] != '-'
    )
    assert 'figures: full method best overall' in ''.join(expectations(moved).index) and not any(
        'hand' in i or 'body' in i for i in expectations(moved).index
    )
    g = gains('3a', moved)
    assert g and findings('3a', moved) and len(findings('1', moved, 'fin')) == 0
    assert (
        'preset quick-data' in provenance('1', moved)
        and '--bench figures' in provenance('1', moved)
        and 'not compared' in check_tables('all', moved, ROOT / 'results/tables')
    )


def test_nothing_of_the_built_in_benches_leaks_in(made, moved):
    "Runs of the rendered benches in the same folder, with the same preset, change nothing"
    from geomrecon.core.skeleton import HAND21

    more = (
        moved
        + [
            dict(made_up_run(m, s, HAND21, b), preset='quick-data')
            for m in ('source', 'aligned', 'full', 'oracle', 'ccssl')
            for s in range(3)
            for b in ('hand', 'body')
        ]
        + [made_up_run('full', 0, HAND21, 'figures')]
    )
    for t in TABLES:
        assert (
            table_html(t, moved) == table_html(t, more)
            and status_text(t, moved) == status_text(t, more)
            and provenance(t, moved) == provenance(t, more)
            and gains(t, moved) == gains(t, more)
            and tidy_rows(t, moved) == tidy_rows(t, more)
        ), t
    assert (
        expectations(moved).equals(expectations(more))
        and diagnosis_changes(moved).equals(diagnosis_changes(more))
        and set(diagnosis_changes(more)['bench']) == {'figures'}
    )


def test_without_the_variables_it_is_as_it_was(made, monkeypatch):
    for v in USUAL.values():
        monkeypatch.delenv(v, raising=False)
    assert (
        all(get_tables(t) == [TABLES[t]] for t in TABLES)
        and usual_preset() == 'tiny'
        and str(usual_runs('x')) == 'x'
        and not elsewhere()
    )
    assert table_frame('1', load_runs(made[3]['results']))['seeds'].tolist() == ['0/3'] * 12


@pytest.mark.parametrize(
    'name', ['table1', 'table2', 'table3', 'table4', 'table5', 'ablations', 'diagnosis']
)
def test_notebooks_run_on_it(moved, name, monkeypatch, capsys):
    "Every cell of the notebook as it is, executed here; what it prints is of the data alone"
    import matplotlib.pyplot as plt

    monkeypatch.chdir(ROOT / 'nbs/results')
    cells = [
        ''.join(c['source'])
        for c in json.loads(Path(f'{name}.ipynb').read_text())['cells']
        if c['cell_type'] == 'code'
    ]
    space, shown = {}, []
    for c in cells:
        *_, last = lines = [l for l in c.split('\n') if 'set_matplotlib_formats' not in l]
        try:
            code = compile(last, name, 'eval') if not last.startswith((' ', '#')) else None
        except SyntaxError:
            code = None
        exec('\n'.join(lines[:-1] if code else lines), space)
        if code:
            shown.append(getattr(x := eval(code, space), 'data', None) or str(x))
    plt.close('all')
    text = capsys.readouterr().out + ''.join(shown)
    assert (
        not re.findall(r'.*\b(?:hand|body)\b.*', text)
        and 'nothing to draw' not in text * (name in ('table1', 'table2'))
        and '--bench figures' in text + '--bench figures' * (name == 'diagnosis')
    )
