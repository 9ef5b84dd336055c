"""What is wrong with a command is said at once, in one line, and nothing is written for it.

Each row is a command line with one thing wrong: it ends with status 2 and one line on stderr that
names the option or file, what was found and what was expected. No folder is made, and a folder
that is there keeps its files as they are, to the byte and the time of change.
"""

import getpass
import platform
import shlex

import cv2
import numpy as np
import pytest
import torch
import yaml
from fixtures_hands import write_mvhand, write_rhd
from fixtures_interrupted import plain_reports  # noqa: F401
from geomrecon.core.geometry import to_pixels
from geomrecon.core.skeleton import HAND21, MOUSE4, skeleton_to_dict
from geomrecon.data.video import write_video
from geomrecon.learn.presets import PRESETS
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_coco import write_coco
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.use import adapt as adapting
from geomrecon.use.cli import main
from geomrecon.use.results_file import read_results
from test_one_step import MINI

SIDE = 64


def write_pictures(folder, pictures, names):
    "Images as files"
    folder.mkdir(exist_ok=True)
    for name, picture in zip(names, pictures):
        cv2.imwrite(str(folder / name), picture[..., ::-1])


def write_labels(folder, mouse, names):
    "Label files, right and wrong, beside six images"
    pixels = to_pixels(mouse['keypoints'][: len(names)], SIDE).numpy()
    write_dlc_csv(folder / 'labels.csv', pixels, None, MOUSE4, index=names)
    hands = np.zeros((len(names), 21, 2))
    write_dlc_csv(folder / 'hands.csv', hands, None, HAND21, index=names)
    write_dlc_csv(folder / 'none.csv', np.full_like(pixels, np.nan), None, MOUSE4, index=names)
    gone = [name.replace('dev', 'gone') + '.gone.png' for name in names]
    write_dlc_csv(folder / 'gone.csv', pixels, None, MOUSE4, index=gone)
    write_coco(folder / 'labels.json', names, pixels, MOUSE4, size=(SIDE, SIDE))
    one = names[:1]
    write_coco(folder / 'one.json', one, pixels[:1], MOUSE4, size=(SIDE, SIDE))


def write_skeletons(folder):
    "Skeleton files: one that has no rig, one without bones, and one that is none"
    described = skeleton_to_dict(MOUSE4)
    (folder / 'norig.yaml').write_text(yaml.safe_dump(dict(described, rig=[])))
    boneless = dict(described, bones=[], ref_bone=[])
    (folder / 'boneless.yaml').write_text(yaml.safe_dump(boneless))
    (folder / 'list.yaml').write_text('[1, 2]')


def write_boxes(folder):
    "Files of boxes, right and wrong"
    (folder / 'two.csv').write_text('x,y,w,h\n1,1,40,40\n1,1,40,40\n')
    (folder / 'outside.csv').write_text('x,y,w,h\n900,900,40,40\n')
    (folder / 'words.csv').write_text('x,y,w,h\na,b,c,d\n')
    (folder / 'columns.csv').write_text('left,top\n1,2\n')


def adapt(folder, out, *options):
    "The exit status of an adaptation that is right but for its options"
    right = f'adapt --skeleton mouse --target {folder}/clip.mp4 --out {out} --crop whole'
    right += ' --preset mini --pool 8 --no-bar'
    return main([*shlex.split(right), *options])


@pytest.fixture(scope='module')
def place(tmp_path_factory, plain_reports):
    "A folder of inputs, right and wrong, and the run `done`"
    folder = tmp_path_factory.mktemp('zero')
    mouse = PuppetVideos(MOUSE4, 1, 24, SIDE, 'real', seed=0, split='test').batch(np.arange(24))
    pictures = mouse['image'].permute(0, 2, 3, 1).numpy()
    write_video(folder / 'clip.mp4', pictures, 15)
    write_video(folder / 'short.mp4', pictures[:4], 15)
    (folder / 'text.mp4').write_text('no video')
    (folder / 'zero.mp4').write_bytes(b'')
    (folder / 'empty').mkdir()
    names = [f'dev/{i}.png' for i in range(6)]
    write_pictures(folder / 'dev', pictures, [f'{i}.png' for i in range(6)])
    (folder / 'damaged').mkdir()
    (folder / 'damaged/1.png').write_bytes(b'no image')
    (folder / 'videos').mkdir()
    write_video(folder / 'videos/a.mp4', pictures, 15)
    write_labels(folder, mouse, names)
    write_skeletons(folder)
    write_boxes(folder)
    (folder / 'preset.yaml').write_text('epochs: many\n')
    (folder / 'other.yaml').write_text('- 1\n')
    (folder / 'file').write_text('a file')
    torch.save([1, 2], folder / 'list.pth')
    write_rhd(folder / 'RHD')
    write_mvhand(folder / 'MVHand')
    PRESETS['mini'] = MINI.changed(name='mini', steps=1, epochs=1, adapt_epochs=1)
    assert adapt(folder, folder / 'done', '--no-video', '--no-ladder') == 0
    yield folder
    del PRESETS['mini']


DEMO = 'demo --skeleton mouse --preset mini --out {d}/new'
ADAPT = 'adapt --skeleton mouse --target {d}/clip.mp4 --preset mini --crop whole --out {d}/new'
TRAIN = (
    'train --source rhd:{d}/RHD --target mvhand:{d}/MVHand?split=all --preset mini --out {d}/new'
    ' --set stride=1,2'
)
#: An adaptation into the folder of another one
AGAIN = ADAPT.replace('{d}/new', '{d}/done') + ' --pool 8 --no-ladder'

#: Options that replace or follow those of a right command -> what the one line has to say
ROWS = [
    # what every command has
    *[(command, '--seed -1', ['--seed', '-1', 'from 0']) for command in (DEMO, ADAPT, TRAIN)],
    *[(command, '--seed 9999999999', ['--seed']) for command in (DEMO, ADAPT, TRAIN)],
    *[(command, '--preset giant', ["'giant'", 'compact']) for command in (DEMO, ADAPT, TRAIN)],
    *[(command, '--set epochs=-1', ['epochs', '-1', '1 to']) for command in (DEMO, ADAPT, TRAIN)],
    *[(command, '--out {d}/file', ['--out', 'is a file']) for command in (DEMO, ADAPT, TRAIN)],
    *[(command, '--out {d}/file/x', ['--out', 'is a file']) for command in (DEMO, ADAPT, TRAIN)],
    *[(command, '--cache {d}/file', ['--cache', 'a file']) for command in (DEMO, ADAPT, TRAIN)],
    # presets
    (DEMO, '--preset {d}/preset.yaml', ['epochs', 'many']),
    (DEMO, '--preset {d}/other.yaml', ['other.yaml', 'list']),
    (DEMO, '--preset {d}/gone.yaml', ['gone.yaml']),
    (DEMO, '--set epochs', ['--set', 'epochs', 'field=value']),
    (DEMO, '--set epoch=3', ['epoch', 'epochs']),
    (DEMO, '--set epochs=1.5', ['epochs', '1.5']),
    (DEMO, '--set lr=nan', ['lr', 'nan']),
    (DEMO, '--set lr=0', ['lr', '0.0']),
    (DEMO, '--set steps=0', ['steps', '0']),
    (DEMO, '--set size=4', ['size', '4', '16']),
    (DEMO, '--set bs=-8', ['bs', '-8']),
    (DEMO, '--set flip=1.5', ['flip', '1.5', '0 to 1']),
    (DEMO, '--set stride=9,3', ['stride', '(9, 3)', 'smaller one first']),
    (DEMO, '--set stride=30,40', ['stride', '(30, 40)', '24 frames']),
    (DEMO, '--set drops=9,4', ['drops', '(9, 4)']),
    (DEMO, '--set gamma=2', ['gamma', '2', '0 to 1']),
    (DEMO, '--set scales=()', ['scales', 'at least one']),
    (DEMO, '--set arch=alexnet', ['arch', 'alexnet', 'resnet18']),
    (DEMO, '--set width=0.01 arch=resnext50_32x4d', ['without channels', 'larger width']),
    (DEMO, '--set accumulate=3', ['accumulate', '3', 'divisor']),
    (DEMO, '--set checkpointing=foo', ['checkpointing', 'foo', 'merge']),
    (DEMO, '--set restyle=jitter adapt_bs=1', ['adapt_bs', '1', 'at least 2']),
    (DEMO, '--set flow_stride=20', ['flow_stride', '20', '48 pixels']),
    (DEMO, '--set scales=0.05', ['scales', '48 pixels']),
    (DEMO, '--set restyle=magic', ['restyle', 'magic']),
    (DEMO, '--set weights={d}/gone.pth', ['gone.pth', 'no such file']),
    (DEMO, '--set weights={d}/list.pth', ['list.pth', 'state dict']),
    (DEMO, '--set features={d}/gone.pth', ['gone.pth', 'no such file']),
    (DEMO, '--set restyle=stylenet style_encoder={d}/gone.pth', ['gone.pth', 'no such file']),
    # options that have no effect beside others
    (DEMO, '--set gamma_3d=0.02', ['gamma_3d', 'no effect', 'depth=false']),
    (ADAPT, '--set align_tau=0.2', ['align_tau', 'no effect', 'restyle=']),
    (ADAPT, '--set style_epochs=3', ['style_epochs', 'no effect', 'restyle=']),
    (ADAPT, '--source coco:{d}/labels.json --pool 9', ['--pool', '9', 'labels.json']),
    # skeletons
    (DEMO, '--skeleton cat', ['cat', 'mouse']),
    (DEMO, '--skeleton {d}/norig.yaml', ['no rig', 'rig nodes']),
    (DEMO, '--skeleton {d}/list.yaml', ['list.yaml', 'list']),
    (DEMO, '--skeleton {d}/gone.yaml', ['gone.yaml']),
    (DEMO, '--gap --skeleton {d}/norig.yaml', ['no rig']),
    (DEMO, '--control perhaps', ['--control', 'perhaps', 'time']),
    (ADAPT, '--skeleton {d}/norig.yaml', ['no rig']),
    (ADAPT, '--skeleton {d}/boneless.yaml', ['boneless.yaml|rig|bones']),
    (ADAPT, '--skeleton source', ['skeleton', "'source'", 'data set']),
    # targets
    (ADAPT, '--target {d}/gone.mp4', ['gone.mp4', 'no such file']),
    (ADAPT, '--target {d}/gone', ['gone', 'no such file']),
    (ADAPT, '--target {d}/gone*.mp4', ['gone', 'matches no file']),
    (ADAPT, '--target {d}/text.mp4', ['text.mp4']),
    (ADAPT, '--target {d}/zero.mp4', ['zero.mp4']),
    (ADAPT, '--target {d}/empty', ['empty', 'no image files']),
    (ADAPT, '--target {d}/damaged', ['damaged', 'none of its images']),
    (ADAPT, '--target {d}/dev/0.png', ['0.png|dev', '1 frames', 'stride']),
    (ADAPT, '--target {d}/short.mp4', ['short.mp4', '4 frames', 'stride']),
    (ADAPT, '--step 30', ['--step', '30', 'stride']),
    (ADAPT, '--step 0', ['--step', '0', 'from 1']),
    (ADAPT, "--target ''", ['--target', 'nothing']),
    (ADAPT, '--target {d}/' + 'x' * 300 + '.mp4', ['xxx']),
    (ADAPT, '--target {d}/videos --out {d}/videos/run', ['--out', 'videos']),
    # crops
    (ADAPT, '--crop face', ['--crop', 'face', 'motion']),
    (ADAPT, '--crop {d}/nofile.csv', ['nofile.csv', 'no such file']),
    (ADAPT, '--crop {d}/two.csv', ['two.csv', '2 boxes', '24 frames']),
    (ADAPT, '--crop {d}/outside.csv', ['outside.csv']),
    (ADAPT, '--crop {d}/words.csv', ['words.csv', 'number']),
    (ADAPT, '--crop {d}/columns.csv', ['columns.csv', 'left']),
    (ADAPT, '--crop motion --target {d}/dev/0.png {d}/dev/1.png', ['dev|png', '2 frames']),
    # labels to measure with
    (ADAPT, '--eval {d}/gone_file.csv', ['gone_file.csv']),
    (ADAPT, '--eval {d}/hands.csv', ['snout']),
    (ADAPT, '--eval {d}/none.csv', ['none.csv', 'no joint is labelled']),
    (ADAPT, '--eval {d}/gone.csv', ['missing', 'gone']),
    (ADAPT, '--eval {d}/file', ['file']),
    # sources
    (ADAPT, '--source watercolour', ['--source', 'watercolour', 'randomised', 'coco']),
    (ADAPT, '--source cocoo:{d}/labels.json', ['--source', 'cocoo', 'coco']),
    (ADAPT, '--source coco:{d}/missing.json', ['missing.json']),
    (ADAPT, '--source coco:{d}/labels.json?colour=1', ['colour', 'option']),
    (ADAPT, '--source coco:{d}/one.json', ['1 sample', 'at least 2']),
    (ADAPT, '--source coco:{d}/labels.json --skeleton hand', ['wrist']),
    (ADAPT, '--source coco:{d}/labels.json --set depth=true', ['--source', '3D', 'depth=false']),
    (ADAPT, '--pool 0', ['--pool', '0', 'from 1']),
    (ADAPT, '--pool -5', ['--pool', '-5']),
    (ADAPT, '--pool 10000000 --set size=2048', ['--out', 'GB free']),
    (ADAPT, '--workers -1', ['--workers', '-1', 'from 0']),
    # methods
    (ADAPT, '--method magic', ['method', 'magic', 'regda']),
    (ADAPT, '--method uniframe', ['uniframe', 'StyleNet', 'restyle=stylenet']),
    (ADAPT, '--method semihand', ['semihand', '--set']),
    # data sets
    (TRAIN, '--source nothing:{d}/RHD', ['nothing', 'rhd']),
    (TRAIN, '--source rhd:{d}/empty', ['RHD lacks']),
    (TRAIN, '--target mvhand:{d}/empty', ['MVHand lacks']),
    (TRAIN, '--test mvhand:{d}/empty', ['MVHand lacks']),
    (TRAIN, '--test coco:{d}/labels.json', ['wrist']),
    (TRAIN, '--target mvhand:{d}/MVHand?side=up', ['side', 'up', 'left']),
    (TRAIN, '--set stride=500,600', ['500 to 600 apart']),
    (TRAIN, '--workers -2', ['--workers', '-2']),
    (TRAIN, '--on-error ignore', ['--on-error', 'ignore', 'skip']),
    (TRAIN, '--control perhaps', ['--control', 'perhaps']),
    (TRAIN, '--source coco:{d}/labels.json --set depth=true', ['3D']),
    # the folder of another run
    (AGAIN, '--seed 1', ['source.ckpt|pseudo', "['seed']", '--fresh']),
    (AGAIN, '--set lr=0.01', ["['preset.lr']", '--fresh']),
    (AGAIN, '--pool 9', ["['source']", '--fresh']),
    (AGAIN, '--source narrow', ["['source']", '--fresh']),
    (AGAIN, '--skeleton hand', ["skeleton", '--fresh']),
    (AGAIN, '--step 2', ["['target']", '--fresh']),
    (AGAIN, '--target {d}/videos/a.mp4', ["['target']", '--fresh']),
    (AGAIN, '--fresh --seed -1', ['--seed']),
    (AGAIN, '--fresh --eval {d}/hands.csv', ['snout']),
    (DEMO, '--out {d}/done', ['another run', '--fresh']),
    (TRAIN, '--out {d}/done', ['another run', '--fresh']),
]


def state_of(folder):
    "Content and time of change of every file, and of every folder"
    state = {}
    for path in sorted(folder.rglob('*')):
        content = path.read_bytes() if path.is_file() else None
        state[path] = content, path.stat().st_mtime_ns
    return state


def words_of(command, options, place):
    "A command line as words; a target among the options takes the place of the right one"
    if '--target' in options:
        command = command.replace(' --target {d}/clip.mp4', '')
    return shlex.split(f'{command} {options}'.replace('{d}', str(place)))


def test_there_are_rows_enough():
    assert len(ROWS) >= 100
    assert len({row[:2] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize('command,options,says', ROWS, ids=lambda value: str(value)[:40])
def test_refused_at_once(place, capsys, command, options, says):
    before = state_of(place)
    assert main(words_of(command, options, place)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith('geomrecon: ')
    for word in says:
        found = any(part in lines[0] for part in word.split('|'))
        assert found, f'{word!r} is not in: {lines[0]}'
    assert state_of(place) == before


def test_stopped_at_once(place, capsys, monkeypatch):
    "Ctrl-C while things are looked at"

    def stop(*args):
        raise KeyboardInterrupt

    before = state_of(place)
    monkeypatch.setattr(adapting, 'look_at', stop)
    assert main(words_of(ADAPT, '', place)) == 130
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert 'stopped' in lines[0]
    assert state_of(place) == before


# What a run says of itself


def test_results_say_what_made_them(place):
    record = read_results(place / 'done')['made_by']
    clip, out = place / 'clip.mp4', place / 'done'
    assert record['command'] == (
        f'geomrecon adapt --target {clip} --out {out} --skeleton mouse --crop whole '
        '--preset mini --no-ladder --no-video --pool 8 --no-bar'
    )
    assert record['options']['seed'] == 0
    assert record['options']['step'] == 1
    [read] = record['inputs']
    assert read['path'] == str(clip)
    assert read['bytes'] == clip.stat().st_size
    assert record['frames'] == 24
    assert record['started'] <= record['ended']
    # seconds are rounded to tenths: the shortest may be none
    assert {'reading the target', 'rendering the source', 'predicting'} <= set(record['phases'])
    assert 0 < sum(record['phases'].values()) <= record['seconds'] + 2
    assert record['versions']['torch'] == torch.__version__


def test_nobody_is_named(place):
    record = read_results(place / 'done')['made_by']
    told = str({**record, 'command': '', 'options': '', 'inputs': ''})
    assert platform.node() not in told
    assert getpass.getuser() not in told


def test_report_shows_what_made_it(place):
    page = (place / 'done/report.html').read_text()
    assert 'How it was made' in page
    for fact in ('clip.mp4', '--crop whole', 'crop whole', f'torch {torch.__version__}'):
        assert fact in page, fact


def test_start_tells_what_will_be_done(place, capsys):
    assert adapt(place, place / 'done', '--no-video', '--no-ladder') == 0
    told = capsys.readouterr().out
    for line in (
        'target: clip.mp4: 24 frames of 64 x 64, 15 a second',
        'crop: whole',
        'skeleton: mouse, 4 joints; left/right: 1 pair (leftear/rightear)',
        'source: 8 rendered figures, randomised',
        'epochs of 1 steps: pre-training 1, pseudo-labels and reconstruction 1',
        'predictions.csv',
        's in all',
    ):
        assert line in told, line


def test_bare_frames_are_explained(place, capsys):
    "No joint is labelled, and none is drawn: both are said, in results and report, too"
    options = ['--set', 'gamma=1', '--no-ladder', '--fresh']
    assert adapt(place, place / 'unsure', *options) == 0
    told = capsys.readouterr().out
    results = read_results(place / 'unsure')
    page = (place / 'unsure/report.html').read_text()
    [unlabelled] = [note for note in results['notes'] if 'gamma = 1' in note]
    [undrawn] = [note for note in results['notes'] if 'bare frames' in note]
    for note in (unlabelled, undrawn):
        assert note in told
        assert note.split(',')[0] in page


@pytest.mark.parametrize(
    'target,tables',
    [
        ('{d}/dev', ['predictions.csv']),
        ('{d}/dev/0.png {d}/dev/1.png {d}/dev/2.png', ['predictions.csv']),
        ('{d}/clip.mp4 {d}/dev', ['predictions_0_clip.csv', 'predictions_1_dev.csv']),
    ],
)
def test_targets_of_every_kind(place, tmp_path, target, tables):
    options = f'--target {target} --out {tmp_path}/run --set stride=1,2 --pool 8 --no-ladder'
    assert main(words_of(ADAPT, options + ' --no-bar --workers 0', place)) == 0
    written = sorted(path.name for path in (tmp_path / 'run').glob('predictions*.csv'))
    assert written == tables
