"Tables on data sets in place of the rendered benches: the same command, functions and notebooks."

import json
import re
from pathlib import Path
import cv2
import numpy as np
import pytest
import torch
from fixtures_runs import made_up_run
from geomrecon.core.errors import ConfigError, DataError
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import HAND21, MOUSE4
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_coco import write_coco
from geomrecon.learn.presets import PRESETS, get_preset
from geomrecon.paper.benches import Bench
from geomrecon.paper.command import results
from geomrecon.paper.findings import findings, gains
from geomrecon.paper.label_free import diagnosis_changes
from geomrecon.paper.needed import needed, on_bench
from geomrecon.paper.provenance import check_tables, provenance
from geomrecon.paper.questions import answers_frame, method_questions
from geomrecon.paper.raw_results import status_text, tidy_rows
from geomrecon.paper.run_files import find_runs, load_runs
from geomrecon.paper.search import search_specs
from geomrecon.paper.settings import spec
from geomrecon.paper.specification import HAND_METHODS, TABLES
from geomrecon.paper.tables import table_frame, table_html
from geomrecon.paper.training import open_shared
from geomrecon.paper.work_list import finished, work_on

ROOT = Path(__file__).parents[1]
PRESET = 'quick-data'
QUICK = get_preset(
    'tiny-2d',
    name=PRESET,
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
CANNOT = {
    'semihand': 'ConfigError: semihand: a net without depth maps',
    'dualnet': 'no depth images',
}


def write_data(folder, data, in_folders=False):
    "Labelled pictures as COCO has them, a folder per video if asked; returns their name"
    batch = data.batch(np.arange(len(data)))
    names = [f'{i:03d}.png' for i in range(len(data))]
    if in_folders:
        names = [f'v{video}/{i:03d}.png' for video, i in zip(data.video_id, data.frame)]
    for name, image in zip(names, batch['image']):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), image.permute(1, 2, 0).numpy()[..., ::-1])
    pixels = to_pixels(batch['keypoints'], 64).numpy()
    write_coco(folder / 'labels.json', names, pixels, MOUSE4, (64, 64))
    name = f'coco:{folder}/labels.json?crop=whole&skeleton=mouse'
    return f'{name}&video=folder' if in_folders else name


class FirstOf:
    "The first images of an endless source"

    def __init__(self, data, n):
        self.data = data
        self.n = n

    def __len__(self):
        return self.n

    def batch(self, numbers):
        return self.data.batch(numbers)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    "A folder, and the names of data sets in it"
    folder = tmp_path_factory.mktemp('data')
    source = FirstOf(PuppetImages(MOUSE4, 1000, 64, 'synthetic', seed=0), 40)
    target = PuppetVideos(MOUSE4, 3, 8, 64, 'real', seed=0, split='train')
    test = PuppetVideos(MOUSE4, 3, 8, 64, 'real', seed=0, split='test')
    return folder, dict(
        source=write_data(folder / 'source', source),
        target=write_data(folder / 'target', target, in_folders=True),
        test=write_data(folder / 'test', test, in_folders=True),
    )


class Made:
    "Runs of most methods on this data, made by the list that the command makes"

    def __init__(self, folder, parts):
        self.bench = Bench('figures', **parts)
        self.where = dict(results=folder / 'runs', work=folder / 'work')
        self.told = []
        todo = [self.spec(method) for method in [*CANNOT, *MADE]]
        todo += [self.spec(method, seed=1) for method in ('source', 'pseudo', 'full')]
        self.n_made = work_on(todo, **self.where, tell=self.told.append)

    def spec(self, method, seed=0):
        return spec(self.bench, method, seed, preset=QUICK)


@pytest.fixture(scope='module')
def made(data):
    return Made(*data)


@pytest.fixture
def runs(made):
    return load_runs(made.where['results'])


def here(name):
    "One table on this data"
    (table,) = on_bench(name, 'figures')
    return table


def test_what_can_be_made_is_made_and_the_rest_is_said(made):
    assert made.n_made == len(MADE) + 3
    assert len(made.told) == made.n_made + len(CANNOT)
    for line, (method, why) in zip(made.told[-len(CANNOT) :], CANNOT.items()):
        assert f'/{method}/0.json: could not be made: ' in line
        assert why in line
    todo = [made.spec(method) for method in MADE]
    assert all(finished(run, made.where['results']) for run in todo)
    assert work_on(todo, **made.where) == 0


def test_other_mistakes_stop_the_list(made, monkeypatch):
    from geomrecon.paper import work_list

    monkeypatch.setattr(work_list, 'train_run', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work_on([made.spec('regda')], **made.where)


LABELS = ('keypoints', 'px', 'visible', 'joints3d', 'batch', 'labels')


def test_training_cannot_reach_the_target_s_labels(made):
    shared = open_shared(made.spec('full'), made.where['work'])
    frames = shared.task.frames
    assert shared.task.quality is None
    assert shared.valid is None
    assert len(shared.truth) == len(frames) == 24
    assert not any(hasattr(frames, name) for name in LABELS)
    parts = [part for part in vars(frames).values() if hasattr(part, '__dict__')]
    assert not any('px' in vars(part) or 'keypoints' in vars(part) for part in parts)
    # The oracle sees the very same frames.
    images = shared.truth.batch([0, 9, 23])['image']
    assert torch.equal(frames.images([0, 9, 23]), images)


def moved_labels(text):
    "Labels moved by up to half the picture"
    content = json.loads(text)
    random = np.random.default_rng(0)
    for annotation in content['annotations']:
        moved = []
        for i, value in enumerate(annotation['keypoints']):
            is_flag = i % 3 == 2
            moved.append(value if is_flag else float(random.uniform(0, 63)))
        annotation['keypoints'] = moved
    return json.dumps(content)


def weights_of(work, run):
    folder = work / PRESET / 'figures/0' / run.room
    return torch.load(folder / 'run.ckpt', weights_only=True)['model']


def same_weights(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.values(), second.values()))


def test_same_weights_whatever_the_target_s_labels_say(data, made, tmp_path):
    "With other target labels the full method's net is the same, the oracle's is not"
    labels = data[0] / 'target' / 'labels.json'
    original = labels.read_text()
    full, oracle = made.spec('full'), made.spec('oracle')
    try:
        labels.write_text(moved_labels(original))
        work_on([full, oracle], tmp_path / 'runs', tmp_path / 'work')
    finally:
        labels.write_text(original)

    def is_same(run):
        return same_weights(weights_of(made.where['work'], run), weights_of(tmp_path / 'work', run))

    assert is_same(full)
    assert not is_same(oracle)


def test_a_target_without_the_source_s_joints_has_no_oracle(data, tmp_path):
    folder, parts = data
    content = json.loads((folder / 'target' / 'labels.json').read_text())
    content['categories'][0]['keypoints'] = list('abcd')
    (folder / 'target' / 'other.json').write_text(json.dumps(content))
    target = f'coco:{folder}/target/other.json?crop=whole&video=folder'
    strangers = Bench('strangers', **dict(parts, target=target))
    todo = [spec(strangers, m, preset=QUICK) for m in ('oracle', 'pseudo>full', 'pseudo')]
    told = []
    n_made = work_on(todo, tmp_path / 'runs', tmp_path / 'work', tell=told.append)
    assert n_made == 1
    assert len(told) == 3
    assert all('no labels of its training frames' in line for line in told[1:])
    # Without the truth no figure of the labels is made.
    assert load_runs(tmp_path / 'runs')[0]['labels'] == []


def test_the_search_needs_a_part_to_validate_on(made):
    with pytest.raises(ConfigError, match='--valid'):
        search_specs(['full'], made.bench, preset=QUICK)


def test_a_search_on_data_sets(data, tmp_path):
    parts = data[1]
    searched = Bench('searched', valid=parts['test'], **parts)
    todo = search_specs(['full'], searched, preset=QUICK)
    assert len(todo) == 3
    where = dict(results=tmp_path / 'runs', work=tmp_path / 'work')
    assert work_on(todo[:1], **where) == 1
    run = finished(todo[0], where['results'])
    # The validation part is the test part here.
    assert run['valid']['pck'] == run['test']['pck']
    # Runs of a search are no runs of tables.
    where['results'].mkdir(exist_ok=True)
    assert load_runs(where['results']) == []


def test_other_data_under_the_same_name_is_refused(data, made):
    parts = data[1]
    other = Bench('figures', **dict(parts, test=parts['target']))
    with pytest.raises(DataError, match='made from'):
        finished(spec(other, 'full', preset=QUICK), made.where['results'])


def test_the_command(data, made, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, PRESET, QUICK)
    n_missing = results(
        '3a',
        seeds=[0],
        preset=PRESET,
        bench='figures',
        folder=made.where['results'],
        work=made.where['work'],
        **data[1],
    )
    out = capsys.readouterr().out
    assert n_missing == 4
    assert f'6 of 10 runs ({PRESET})' in out
    assert 'figures: ' in out
    assert '--bench figures' in out
    assert 'hand:' not in out
    assert 'heatmap' in out


# What somebody sees who looks at these runs


def test_tables_move_to_the_data():
    tables = on_bench('all', 'figures')
    assert {bench for bench, *_ in needed(tables)} == {'figures'}
    assert all(table.benches == ['figures'] for table in tables)


def test_tables_are_those_of_the_data(runs):
    frame = table_frame(here('1'), runs, preset=PRESET)
    assert frame.loc['ours', 'seeds'] == '2/3'
    assert frame.loc['CC-SSL', 'seeds'] == '0/3'
    assert {'snout', 'ears', 'tailbase', 'all'} <= set(frame.columns)
    assert 'mcp' not in frame
    full = find_runs(runs, 'figures', 'full', preset=PRESET)
    overall = [run['test']['pck']['all'] for run in full]
    assert len(overall) == 2
    text = f'{np.mean(overall):.1f} ± {np.std(overall, ddof=1):.1f}'
    assert frame.loc['ours', 'all'] == text


def test_other_tables_are_those_of_the_data(runs):
    bodies = table_frame(here('2'), runs, preset=PRESET)
    assert bodies.loc['ours', 'seeds'] == '2/3'
    labels = table_frame(here('3b'), runs, preset=PRESET)
    assert labels.loc['ours', 'selected, last 3 epochs, %'] != '-'
    confident = table_frame(here('3c'), runs, preset=PRESET)
    assert confident['before, %'].iloc[0] != '-'


def test_texts_are_those_of_the_data(runs):
    questions = method_questions(runs, 'figures', HAND_METHODS, PRESET)
    assert all(question.text.startswith('figures: ') for question in questions)
    assert gains(here('3a'), runs, preset=PRESET)
    assert findings(here('3a'), runs, preset=PRESET)
    # A mouse has no fingertips.
    assert findings(here('1'), runs, 'fin', preset=PRESET) == []
    said = provenance(here('1'), runs, PRESET)
    assert f'preset {PRESET}' in said
    assert '--bench figures' in said
    tables = on_bench('all', 'figures')
    assert 'not compared' in check_tables(tables, runs, ROOT / 'results/tables', PRESET)


@pytest.fixture
def more_runs(runs):
    "Runs of the rendered benches in the same folder, and of this one with another preset"
    more = list(runs)
    for bench in ('hand', 'body'):
        for method in ('source', 'aligned', 'full', 'oracle', 'ccssl'):
            for seed in range(3):
                more.append(dict(made_up_run(method, seed, HAND21, bench), preset=PRESET))
    more.append(made_up_run('full', 0, HAND21, 'figures'))
    return more


@pytest.mark.parametrize('name', TABLES)
@pytest.mark.parametrize('make', [table_html, status_text, provenance, gains, tidy_rows])
def test_nothing_of_the_built_in_benches_leaks_into_tables(name, make, runs, more_runs):
    table = here(name)
    assert make(table, runs, preset=PRESET) == make(table, more_runs, preset=PRESET)


def test_nothing_of_the_built_in_benches_leaks_into_answers(runs, more_runs):
    def answers(shown):
        questions = method_questions(shown, 'figures', HAND_METHODS, PRESET)
        return answers_frame(questions, shown, PRESET)

    assert answers(runs).equals(answers(more_runs))
    changes = diagnosis_changes(runs, PRESET, bench='figures')
    assert changes.equals(diagnosis_changes(more_runs, PRESET, bench='figures'))
    assert set(changes['bench']) == {'figures'}


def test_without_a_bench_tables_are_as_they_were(runs):
    assert all(on_bench(name) == [table] for name, table in TABLES.items())
    assert table_frame('1', runs)['seeds'].tolist() == ['0/3'] * 12


# The notebooks

NOTEBOOKS = {
    '23_table1': True,
    '24_table2': True,
    '25_table3': False,
    '26_table4': False,
    '27_table5': False,
    '29_ablations': False,
    '30_diagnosis': False,
}  # Name -> are there runs for each of its pictures?


def code_of(name, folder):
    "Code cells of a results notebook, its parameters set to the runs made here"
    content = json.loads(Path(f'{name}.ipynb').read_text())
    cells = [''.join(cell['source']) for cell in content['cells'] if cell['cell_type'] == 'code']
    parameters = [i for i, cell in enumerate(cells) if cell.startswith('# Parameters')]
    assert len(parameters) == 1
    values = dict(bench='figures', preset=PRESET, folder=str(folder))
    lines = [f'{key} = {value!r}' for key, value in values.items()]
    cells[parameters[0]] = '\n'.join(lines)
    return cells


def is_expression(line):
    if line.startswith((' ', '#', ')')):
        return False
    try:
        compile(line, 'cell', 'eval')
    except SyntaxError:
        return False
    return True


def execute(cells):
    "Every cell as it is; returns what their last lines show"
    space, shown = {}, []
    for cell in cells:
        lines = [line for line in cell.split('\n') if 'set_matplotlib_formats' not in line]
        if not is_expression(lines[-1]):
            exec('\n'.join(lines), space)
            continue
        exec('\n'.join(lines[:-1]), space)
        value = eval(lines[-1], space)
        shown.append(getattr(value, 'data', None) or str(value))
    return ''.join(shown)


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebooks_run_on_it(made, name, monkeypatch, capsys):
    "What a notebook prints is of the data alone"
    import matplotlib.pyplot as plt

    monkeypatch.chdir(ROOT / 'nbs/paper')
    shown = execute(code_of(name, made.where['results']))
    plt.close('all')
    text = capsys.readouterr().out + shown
    assert not re.findall(r'.*\b(?:hand|body)\b.*', text)
    if NOTEBOOKS[name]:
        assert 'nothing to draw' not in text
    if name != '30_diagnosis':
        assert '--bench figures' in text
