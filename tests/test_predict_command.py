"`predict` and the commands that only tell: many inputs, what is done stays done, and bad command lines end before anything is written."

import json
from functools import partial
from pathlib import Path
import cv2
import numpy as np
import pytest
import torch
import geomrecon.use.predict as prediction
import geomrecon.use.prediction_formats as prediction_formats
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.video import video_info, write_video
from geomrecon.learn.learner import build_model
from geomrecon.models.adapter import PoseAdapter
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.catalogue import READERS
from geomrecon.readers.label_coco import write_coco
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.use.cli import main
from geomrecon.use.inputs import RECORD
from geomrecon.use.model_file import save_model
from fixtures_use import SMALL

MOMENTS = ['moments.csv', 'moments.png']
TABLES = [*MOMENTS, 'predictions.csv', 'predictions.json', RECORD]


def pictures(seed, n):
    "Pictures of a rendered mouse"
    mouse = PuppetVideos(MOUSE4, 1, n, 64, 'real', seed=seed, split='test')
    return mouse.frames().images(range(n)).permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "A folder with models, videos and images, good and bad"
    folder = tmp_path_factory.mktemp('lab')
    for name, depth in (('flat', False), ('deep', True)):
        torch.manual_seed(0)
        preset = SMALL.changed(depth=depth)
        save_model(
            folder / f'{name}.pth', build_model(MOUSE4, preset), MOUSE4, preset, crop='whole'
        )
    flat = SMALL.changed(depth=False)
    moving = dict(crop='motion', side=None, background=None)
    save_model(folder / 'moving.pth', build_model(MOUSE4, flat), MOUSE4, flat, **moving)
    for seed, name in enumerate(('a.mp4', 'day1/mouse.mp4', 'day2/mouse.mp4')):
        write_video(folder / name, pictures(seed, 6), 10)
    (folder / 'stills').mkdir()
    for number, picture in enumerate(pictures(3, 3)):
        cv2.imwrite(str(folder / f'stills/f{number}.png'), picture[..., ::-1])
    write_bad_things(folder)
    return folder


def write_bad_things(folder):
    "What is no video, no image, no model and no folder"
    for name in ('empty', 'notes', 'running', 'begun', 'other'):
        (folder / name).mkdir()
    (folder / 'notes/notes.txt').write_text('no video')
    (folder / 'notes.txt').write_text(
        'a text that is no video, though some would play it as one\n' * 9
    )
    (folder / 'bad.mp4').write_bytes(b'no video')
    png = (folder / 'stills/f0.png').read_bytes()
    (folder / 'cut.png').write_bytes(png[: len(png) // 2])
    torch.save(dict(model={}, opt={}, epoch=1, n_epoch=2), folder / 'running/source.ckpt')
    (folder / 'begun/preset.yaml').write_text('name: tiny\n')
    (folder / 'bad.pth').write_bytes(b'nonsense')
    (folder / 'boxes4.csv').write_text('x,y,w,h\n' + '0,0,40,40\n' * 4)
    (folder / 'other/predictions.csv').write_text('made by someone else')
    (folder / 'damaged.yaml').write_text('size: [')


def predict(lab, *inputs, out, model='flat.pth', options=()):
    "The exit status of `geomrecon predict` on inputs in the lab"
    given = [str(lab / each) for each in inputs]
    files = ['--model', str(lab / model), '--input', *given, '--out', str(out)]
    return main(['predict', *files, '--no-bar', *options])


def files_in(folder):
    "All files below a folder, with their times"
    files = [path for path in Path(folder).rglob('*') if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


# Several inputs


def test_each_input_has_a_folder_of_its_own(lab, tmp_path, capsys):
    inputs = ('day1', 'day2/*.mp4', 'stills', 'day1/mouse.mp4')
    assert predict(lab, *inputs, out=tmp_path) == 0
    expected = [f'stills/{name}' for name in ('f0_pose.png', 'f1_pose.png', 'f2_pose.png', *TABLES)]
    for name in ('day1_mouse', 'day2_mouse'):
        expected += [f'{name}/{file}' for file in ('mouse_pose.mp4', *TABLES)]
    assert sorted(files_in(tmp_path)) == sorted(expected)
    said = capsys.readouterr().out
    assert '[3 of 3] stills: 3 frames' in said
    assert 'a second' in said
    assert 'predictions.csv, predictions.json' in said


def test_an_input_among_others_is_predicted_as_alone(lab, tmp_path):
    assert predict(lab, 'day1', 'day2', out=tmp_path / 'both') == 0
    assert predict(lab, 'day2', out=tmp_path / 'alone') == 0
    together = (tmp_path / 'both/day2_mouse/predictions.csv').read_bytes()
    assert together == (tmp_path / 'alone/predictions.csv').read_bytes()
    other = (tmp_path / 'both/day1_mouse/predictions.csv').read_bytes()
    assert together != other


def test_images_named_one_by_one_are_one_series(lab, tmp_path):
    assert predict(lab, 'stills/f0.png', 'stills/f2.png', out=tmp_path) == 0
    # two images are too few for moments
    expected = ['f0_pose.png', 'f2_pose.png', *(set(TABLES) - set(MOMENTS))]
    assert sorted(files_in(tmp_path)) == sorted(expected)
    assert read_dlc_csv(tmp_path / 'predictions.csv', MOUSE4).names == ['f0.png', 'f2.png']


def test_a_video_that_fails_does_not_stop_the_others(lab, tmp_path, capsys):
    write_video(tmp_path / 'still.mp4', [np.full((64, 64, 3), 90, np.uint8)] * 6, 10)
    inputs = [tmp_path / 'still.mp4', 'a.mp4']
    assert predict(lab, *inputs, out=tmp_path / 'out', options=['--crop', 'motion']) == 2
    assert 'a_pose.mp4' in [path.name for path in (tmp_path / 'out/a').iterdir()]
    said = capsys.readouterr()
    assert 'still.mp4' in said.err
    assert '1 of 2 inputs could not be predicted on' in said.err


# What is done


def test_what_is_done_is_left_alone(lab, tmp_path, capsys):
    assert predict(lab, 'day1', 'day2', out=tmp_path) == 0
    before = files_in(tmp_path)
    assert predict(lab, 'day1', 'day2', out=tmp_path) == 0
    assert files_in(tmp_path) == before
    assert capsys.readouterr().out.count('done before') == 2
    assert predict(lab, 'day1', 'day2', out=tmp_path, options=['--fresh']) == 0
    after = files_in(tmp_path)
    assert all(after[name] > before[name] for name in before)


@pytest.mark.parametrize('options', [['--step', '2'], ['--threshold', '0'], ['--no-video']])
def test_other_options_predict_again(lab, tmp_path, capsys, options):
    assert predict(lab, 'a.mp4', out=tmp_path) == 0
    assert predict(lab, 'a.mp4', out=tmp_path, options=options) == 0
    assert 'done before' not in capsys.readouterr().out
    assert ('a_pose.mp4' in files_in(tmp_path)) == ('--no-video' not in options)


def test_another_model_and_a_changed_file_predict_again(lab, tmp_path, capsys):
    video = write_video(tmp_path / 'v.mp4', pictures(5, 6), 10)
    assert predict(lab, video, out=tmp_path / 'out') == 0
    assert predict(lab, video, out=tmp_path / 'out', model='deep.pth') == 0
    write_video(video, pictures(5, 7), 10)
    assert predict(lab, video, out=tmp_path / 'out', model='deep.pth') == 0
    assert 'done before' not in capsys.readouterr().out
    assert len(read_dlc_csv(tmp_path / 'out/predictions.csv', MOUSE4).names) == 7


@pytest.mark.parametrize('stop_after', [1, 3, 5])
def test_an_interrupted_call_goes_on(lab, tmp_path, monkeypatch, capsys, stop_after):
    "Ctrl-C at any file that is written: what is there is whole, the same command makes the rest"
    assert predict(lab, 'day1', 'day2', out=tmp_path / 'whole') == 0
    written = []
    for name in ('csv', 'coco'):
        form = prediction_formats.FORMATS[name]
        write = partial(write_or_stop, form.write, written, stop_after)
        monkeypatch.setitem(prediction_formats.FORMATS, name, form._replace(write=write))
    encode = partial(write_or_stop, prediction.encode_video, written, stop_after)
    monkeypatch.setattr(prediction, 'encode_video', encode)
    assert predict(lab, 'day1', 'day2', out=tmp_path / 'out') == 130
    monkeypatch.undo()
    assert 'goes on where it was' in capsys.readouterr().err
    for file in files_in(tmp_path / 'out'):
        assert '.tmp' not in file
    assert predict(lab, 'day1', 'day2', out=tmp_path / 'out') == 0
    assert ('done before' in capsys.readouterr().out) == (stop_after >= 3)
    assert same_contents(tmp_path / 'whole', tmp_path / 'out')


def write_or_stop(write, written, stop_after, *args, **kwargs):
    "Write a file, or be interrupted after so many"
    written.append(write)
    if len(written) > stop_after:
        raise KeyboardInterrupt
    return write(*args, **kwargs)


def same_contents(one, other):
    "Do two folders hold the same predictions and drawings?"
    names = sorted(files_in(one))
    assert names == sorted(files_in(other))
    for name in names:
        if name.endswith('.mp4'):
            # the encoder does not give the same bytes twice
            same = video_info(one / name) == video_info(other / name)
        else:
            same = name.endswith(RECORD) or (one / name).read_bytes() == (other / name).read_bytes()
        if not same:
            return False
    return True


def test_predictions_of_another_input_stay(lab, tmp_path, capsys):
    assert predict(lab, 'day1/mouse.mp4', out=tmp_path) == 0
    before = files_in(tmp_path)
    assert predict(lab, 'day2/mouse.mp4', out=tmp_path) == 2
    assert 'holds predictions of mouse.mp4' in capsys.readouterr().err
    assert files_in(tmp_path) == before
    assert predict(lab, 'a.mp4', out=tmp_path, options=['--fresh']) == 0
    assert sorted(files_in(tmp_path)) == sorted(['a_pose.mp4', *TABLES])


def test_the_record_says_what_made_them(lab, tmp_path):
    assert predict(lab, 'a.mp4', out=tmp_path, options=['--step', '2']) == 0
    record = json.loads((tmp_path / RECORD).read_text())
    assert record['command'].startswith('geomrecon predict')
    assert record['options']['step'] == 2
    assert [Path(each['path']).name for each in record['inputs']] == ['flat.pth', 'a.mp4']
    assert record['versions']['geomrecon']
    assert record['ended']
    assert sorted([*record['files'], RECORD]) == sorted(['a_pose.mp4', *TABLES])


# What is drawn


def sure(monkeypatch, likelihoods):
    "Every net answers with these likelihoods"
    real = PoseAdapter.predict

    def predicted(self, images, *args, **kwargs):
        keypoints, likelihood, *depth = real(self, images, *args, **kwargs)
        return keypoints, torch.tensor(likelihoods).expand_as(likelihood), *depth

    monkeypatch.setattr(PoseAdapter, 'predict', predicted)


@pytest.mark.parametrize(
    'likelihoods,threshold,says',
    [
        ([0.1] * 4, '0.2', 'no joint of a.mp4 is above 0.2; nothing is drawn'),
        ([0.1] * 4, '0.05', None),
        ([0.1, 0.1, 0.1, 0.9], '0.2', 'only 25.0% of the joints of a.mp4'),
        ([0.9] * 4, '0.2', None),
        ([0.9] * 4, '1', 'no joint of a.mp4 is above 1'),
    ],
)
def test_bare_frames_are_said(lab, tmp_path, monkeypatch, capsys, likelihoods, threshold, says):
    sure(monkeypatch, likelihoods)
    assert predict(lab, 'a.mp4', out=tmp_path, options=['--threshold', threshold]) == 0
    said = capsys.readouterr().out
    assert ('drawn' in said) == (says is not None)
    assert says is None or says in said


def test_threshold_decides_what_is_drawn(lab, tmp_path, monkeypatch):
    sure(monkeypatch, [0.1] * 4)
    for threshold in ('0', '0.5'):
        assert (
            predict(lab, 'stills', out=tmp_path / threshold, options=['--threshold', threshold])
            == 0
        )
    original = cv2.imread(str(lab / 'stills/f0.png'))
    assert (cv2.imread(str(tmp_path / '0.5/f0_pose.png')) == original).all()
    assert (cv2.imread(str(tmp_path / '0/f0_pose.png')) != original).any()


def test_a_step_keeps_the_speed(lab, tmp_path):
    assert predict(lab, 'a.mp4', out=tmp_path, options=['--step', '2', '--device', 'cpu']) == 0
    info = video_info(tmp_path / 'a_pose.mp4')
    assert (info.n_frames, info.fps) == (3, 5)


# Command lines that cannot work


def line(model='flat.pth', input='a.mp4', out='new', **options):
    "A command line of `predict` in the folder {d}"
    inputs = [f'{{d}}/{each}' for each in input.split()]
    words = ['predict', '--model', f'{{d}}/{model}', '--input', *inputs, '--out', f'{{d}}/{out}']
    for option, value in options.items():
        words += ['--' + option.replace('_', '-'), value]
    return words


BAD_PREDICT = [
    (line(step='0'), '--step: 0'),
    (line(step='-3'), '--step: -3'),
    (line(threshold='1.5'), '--threshold: 1.5 (expected a number from 0 to 1)'),
    (line(threshold='-0.1'), '--threshold'),
    (line(threshold='nan'), '--threshold'),
    (line(bone_length='0', model='deep.pth'), 'bone_length: 0'),
    (line(bone_length='inf', model='deep.pth'), 'bone_length: inf'),
    (line(bone_length='80'), 'net without depth'),
    (line(device='cuda:99'), "torch finds no 'cuda:99' here"),
    (line(device='gpu'), "torch finds no 'gpu' here"),
    (line(crop='middle'), 'middle'),
    (line(crop='gone.csv'), 'gone.csv'),
    (line(crop='{d}/boxes4.csv'), '4 boxes for 6 frames'),
    (line(crop='{d}/notes.txt'), 'notes.txt'),
    (line(out='a.mp4'), 'a.mp4 is a file'),
    (line(out='a.mp4/out'), 'a.mp4 is a file'),
    (line(out='other'), 'holds predictions of another origin'),
    (line(input='stills', out='stills/out'), 'lies in the input'),
    (line(input='day1', out='day1'), 'lies in the input'),
    (line(model='gone.pth'), 'gone.pth: no such file'),
    (line(model='empty'), 'is a folder without model.pth'),
    (
        line(model='running'),
        "has no model.pth: the run is still training, or was stopped; trained so far: ['source']",
    ),
    (line(model='running/source.ckpt'), 'checkpoint of a training at epoch 1 of 2'),
    (line(model='begun'), 'has only begun'),
    (line(model='bad.pth'), 'bad.pth'),
    (line(model='a.mp4'), 'a.mp4'),
    (line(input='gone.mp4'), 'gone.mp4'),
    (line(input='a.mp4 gone.mp4'), 'gone.mp4'),
    (line(input='a.mp4 bad.mp4'), 'bad.mp4'),
    (line(input='a.mp4 notes.txt'), 'notes.txt'),
    (line(input='a.mp4 cut.png'), 'cut.png'),
    (line(input='stills gone.png'), 'gone.png'),
    (line(input='a.mp4 empty'), 'empty'),
    (line(input='notes'), 'no image files, videos or folders'),
    (line(input='*.avi'), 'matches no file'),
    (line(input='stills/f0.png', model='moving.pth'), 'single image'),
]
BAD_OTHER = [
    (['data', 'rdh'], "no reader is called 'rdh'; nearest: rhd"),
    (['data', 'rdh:{d}'], 'nearest: rhd'),
    (['data', 'rhd:'], 'name:folder'),
    (['data', 'rhd:{d}/empty'], 'RHD lacks'),
    (['data', 'rhd:{d}/empty?splt=test'], 'nearest: split'),
    (['data', 'rhd:{d}/empty?split=tain'], 'tain'),
    (['data', 'rhd:{d}/empty?images=perhaps'], 'a value such as true'),
    (['data', 'coco:{d}/gone.json'], 'gone.json'),
    (['data', 'coco:{d}/a.mp4'], 'a.mp4'),
    (['data', 'dlc:{d}/notes.txt'], 'notes.txt'),
    (['data', 'rhd', '--out', '{d}/sheet.png'], 'NAME:FOLDER'),
    (['data', '--out', '{d}/sheet.png'], 'NAME:FOLDER'),
    (['data', 'coco:{d}/labels.json', '--out', '{d}/sheet.xyz'], 'sheet.xyz'),
    (['data', 'coco:{d}/labels.json', '--out', '{d}/a.mp4/sheet.png'], 'is a file'),
    (['data', 'coco:{d}/labels.json', '--n', '0'], '--n: 0'),
    (['data', 'coco:{d}/labels.json', '--size', '4'], '--size: 4'),
    (['data', 'coco:{d}/labels.json', '--on-error', 'ignore'], 'on_error'),
    (['presets', 'tinny'], "no preset is called 'tinny'; nearest: tiny"),
    (['presets', '--set', 'lr=1'], 'no preset to change'),
    (['presets', 'tiny', '--set', 'lrr=1'], 'lrr'),
    (['presets', 'tiny', '--set', 'lr'], 'field=value'),
    (['presets', 'tiny', '--set', 'epochs=-1'], 'epochs'),
    (['presets', '{d}/gone.yaml'], 'gone.yaml'),
    (['presets', '{d}/damaged.yaml'], 'damaged.yaml'),
    (['presets', '{d}/empty'], 'preset.yaml'),
    (['methods', 'uniform'], "no method is called 'uniform'; nearest: uniframe"),
]


@pytest.mark.parametrize('arguments,says', BAD_PREDICT + BAD_OTHER)
def test_bad_command_lines(lab, capsys, arguments, says):
    "Exit status 2, one line that says what is wrong, and nothing written"
    before = files_in(lab)
    assert main([argument.format(d=lab) for argument in arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert len(said.splitlines()) == 1
    assert 'Traceback' not in said
    assert files_in(lab) == before
    assert not (lab / 'new').exists()


# The commands that only tell


def test_data_fits_on_a_screen(capsys):
    assert main(['data']) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) <= 24
    assert all(len(line) <= 110 for line in said)
    assert all(any(line.startswith(f'{name}: ') for line in said) for name in READERS)


@pytest.mark.parametrize('name', READERS)
def test_data_tells_about_one_reader(capsys, name):
    assert main(['data', name]) == 0
    said = capsys.readouterr().out
    for part in ('to be had from', 'expected files', 'joints', 'options', 'geomrecon data'):
        assert part in said
    assert 'None' not in said.split('options')[0]


def test_data_tells_what_a_folder_holds(lab, tmp_path, capsys):
    px = np.full((3, 4, 2), 20.0)
    labels = tmp_path / 'labels.json'
    for path in (lab / 'stills').iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_coco(labels, ['f0.png', 'f1.png', 'gone.png'], px, MOUSE4, size=(64, 64))
    assert main(['data', f'coco:{labels}']) == 0
    said = capsys.readouterr()
    assert "'missing image': 1" in said.out
    assert 'samples: 2' in said.out
    assert 'leftear/rightear' in said.out
    assert 'snout' in said.out


def test_presets_says_meaning_range_and_origin(tmp_path, capsys):
    assert main(['presets', 'compact']) == 0
    said = capsys.readouterr().out
    assert 'Epochs of pre-training [1 to 1,000,000]' in said
    assert 'sized for' in said
    (tmp_path / 'preset.yaml').write_text('name: mine\nsize: 64\n')
    assert main(['presets', str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith('mine')


def test_methods_tells_about_one(capsys):
    assert main(['methods', 'regda']) == 0
    said = capsys.readouterr().out
    assert 'regda' in said and 'uniframe' not in said


@pytest.mark.parametrize('command', ['predict', 'data', 'presets', 'methods'])
def test_help_says_what_every_argument_is(capsys, command):
    with pytest.raises(SystemExit):
        main([command, '--help'])
    said = capsys.readouterr().out
    assert 'None' not in said
    listed = [line for line in said.splitlines() if line.startswith(('  name', '  --'))]
    for line, following in zip(said.splitlines(), said.splitlines()[1:]):
        if line in listed:
            assert len(line.split('  ')) > 2 or following.startswith(' ' * 15), line
