"`geomrecon suggest`: what it writes is read back, nothing of anyone is overwritten, and bad command lines end before anything is written."

import json
import re
import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from geomrecon.core.skeleton import HAND21, MOUSE4
from geomrecon.data.video import read_video, write_video
from geomrecon.learn.learner import build_model
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.label_coco import read_labels
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.use.cli import main
from geomrecon.use.made_by import write_made_by
from geomrecon.use.model_file import save_model
from fixtures_use import SMALL

RATE = 20
LENGTH = 100
CSV = 'CollectedData_geomrecon.csv'


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "Two videos, a net, and the folder of a run that names its target"
    folder = tmp_path_factory.mktemp('lab')
    for seed, name in enumerate(('a.mp4', 'b.mp4')):
        mouse = PuppetVideos(MOUSE4, 1, LENGTH, 64, 'real', seed=seed, split='test')
        pictures = mouse.batch(np.arange(LENGTH))['image'].permute(0, 2, 3, 1).numpy()
        write_video(folder / name, pictures, RATE)
    (folder / 'stills').mkdir()
    for number, picture in enumerate(pictures[::9]):
        cv2.imwrite(str(folder / f'stills/still{number}.png'), picture[..., ::-1])
    torch.manual_seed(0)
    preset = SMALL.changed(depth=False)
    model = build_model(MOUSE4, preset)
    # sure of everything, so that the files hold a first guess
    model.pose.head.bias.data.fill_(0.6)
    (folder / 'run').mkdir()
    save_model(folder / 'run/model.pth', model, MOUSE4, preset, crop='whole')
    write_made_by(folder / 'run', dict(options=dict(target=[str(folder / 'a.mp4')])))
    write_bad_things(folder)
    return folder


def write_bad_things(folder):
    "What is no run, no video, no labels, and a folder of somebody else"
    for name in ('empty', 'theirs/labeled-data/x', 'moved'):
        (folder / name).mkdir(parents=True)
    (folder / 'theirs/labeled-data/x/CollectedData_me.csv').write_text('theirs')
    (folder / 'bad.mp4').write_bytes(b'no video')
    (folder / 'notes.csv').write_text('no labels')
    (folder / 'moved/model.pth').write_bytes((folder / 'run/model.pth').read_bytes())
    write_made_by(folder / 'moved', dict(options=dict(target=['gone.mp4'])))
    hands = np.zeros((1, 21, 2))
    write_dlc_csv(folder / 'hands.csv', hands, None, HAND21, index=['img.png'])


def suggest(lab, out, *targets, options=()):
    "The exit status of `geomrecon suggest`"
    target = ['--target', *(str(lab / each) for each in targets)] if targets else []
    given = ['--model', str(lab / 'run'), '--out', str(out), *target]
    return main(['suggest', *given, '--no-bar', *map(str, options)])


@pytest.fixture(scope='module')
def suggested(lab, tmp_path_factory):
    "Four frames of both videos"
    out = tmp_path_factory.mktemp('suggested') / 'to_label'
    assert suggest(lab, out, 'a.mp4', 'b.mp4', options=['--n', 4]) == 0
    return out


def files_in(folder):
    "All files below a folder, with their times"
    files = [path for path in folder.rglob('*') if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def number_of(name):
    return int(re.search(r'(\d+)\.png$', name)[1])


# What is written


def test_frames_are_distinct_and_spread(suggested):
    table = pd.read_csv(suggested / 'reasons.csv')
    assert len(table) == 4
    assert table['file'].is_unique
    for name in ('a.mp4', 'b.mp4'):
        numbers = np.sort(table['frame'][table['input'] == name])
        assert len(numbers) >= 1
        assert (np.diff(numbers) > RATE / 2).all()
    assert table['reasons'].str.len().min() > 0


def test_pictures_are_the_whole_frames(lab, suggested):
    for file in sorted(suggested.glob('labeled-data/a/*.png'))[:2]:
        number = number_of(file.name)
        frame = next(read_video(lab / 'a.mp4', start=number, stop=number + 1))
        assert (cv2.imread(str(file))[..., ::-1] == frame).all()


def test_round_trip(suggested):
    "Correct the CSV, as a tool or a hand does; it is read again with its images"
    csv = suggested / 'labeled-data/b' / CSV
    rows = csv.read_text().splitlines()
    assert [row.split(',')[0] for row in rows[:3]] == ['scorer', 'bodyparts', 'coords']
    assert rows[0].split(',')[1] == 'geomrecon'
    cells = rows[3].split(',')
    cells[3:5] = ['31.25', '12.5']
    corrected = suggested / 'labeled-data/b/CollectedData_me.csv'
    corrected.write_text('\n'.join([*rows[:3], ','.join(cells), *rows[4:]]) + '\n')
    labels = read_labels(corrected, MOUSE4)
    assert labels.keypoints[0, 1].tolist() == [31.25, 12.5]
    for folder in (corrected.parent, suggested):
        frames = LabelledFrames(labels, folder, size=48, crop='whole', progress=False)
        assert len(frames) == len(labels.names)
    corrected.unlink()


def test_all_files_say_the_same(suggested):
    coco = read_labels(suggested / 'suggested.json', MOUSE4)
    assert len(coco.names) == 4
    assert coco.visible.any()
    by_name = dict(zip(coco.names, coco.keypoints))
    for file in suggested.glob('labeled-data/*/CollectedData*'):
        labels = read_labels(file, MOUSE4)
        for name, keypoints in zip(labels.names, labels.keypoints):
            np.testing.assert_allclose(keypoints, by_name[name], atol=2e-3)
    assert len(LabelledFrames(coco, suggested, size=48, crop='whole', progress=False)) == 4


def test_unlikely_joints_are_empty(lab, tmp_path, capsys):
    assert suggest(lab, tmp_path / 'out', 'a.mp4', options=['--n', 2, '--threshold', 1]) == 0
    assert 'left empty, since less likely than 1: 8 of 8 joints' in capsys.readouterr().out
    assert not read_labels(tmp_path / 'out/labeled-data/a' / CSV, MOUSE4).visible.any()
    [first, _] = json.loads((tmp_path / 'out/suggested.json').read_text())['annotations']
    assert first['keypoints'] == [0] * 12


def test_images_of_a_folder_keep_their_names(lab, tmp_path):
    assert suggest(lab, tmp_path / 'out', 'stills', options=['--n', 3]) == 0
    names = [path.name for path in (tmp_path / 'out').glob('labeled-data/stills/*.png')]
    assert len(names) == 3
    assert all((lab / 'stills' / name).is_file() for name in names)


# What is labelled already


def test_the_next_frames_are_others(lab, suggested, tmp_path, capsys):
    out = tmp_path / 'more'
    options = ['--n', 2, '--labels', suggested]
    assert suggest(lab, out, 'a.mp4', 'b.mp4', options=options) == 0
    assert 'labelled already: 4 frames of the target, 0 other images' in capsys.readouterr().out
    earlier, more = (pd.read_csv(folder / 'reasons.csv') for folder in (suggested, out))
    for name in ('a.mp4', 'b.mp4'):
        before = earlier['frame'][earlier['input'] == name].to_numpy()
        after = more['frame'][more['input'] == name].to_numpy()
        assert (np.abs(before[:, None] - after) > RATE / 2).all()
    # all of them are compared with what is labelled
    assert more['unlike'].notna().all()


def test_labels_of_another_video_count_as_well(lab, suggested, tmp_path, capsys):
    labels = suggested / 'labeled-data/b' / CSV
    assert suggest(lab, tmp_path / 'out', 'a.mp4', options=['--n', 2, '--labels', labels]) == 0
    said = capsys.readouterr().out
    n = len(read_labels(labels, MOUSE4).names)
    assert f'labelled already: 0 frames of the target, {n} other images' in said
    assert pd.read_csv(tmp_path / 'out/reasons.csv')['unlike'].notna().all()


def test_the_target_of_the_run_is_the_default(lab, tmp_path):
    assert suggest(lab, tmp_path / 'out', options=['--n', 2]) == 0
    assert [path.name for path in (tmp_path / 'out/labeled-data').iterdir()] == ['a']


def test_the_same_seed_suggests_the_same(lab, suggested, tmp_path):
    assert suggest(lab, tmp_path / 'again', 'a.mp4', 'b.mp4', options=['--n', 4]) == 0
    for name in ('reasons.csv', 'suggested.json', f'labeled-data/a/{CSV}'):
        assert (tmp_path / 'again' / name).read_bytes() == (suggested / name).read_bytes()


# What somebody has corrected


def test_a_corrected_file_is_never_overwritten(lab, tmp_path, capsys):
    out = tmp_path / 'out'
    assert suggest(lab, out, 'a.mp4', options=['--n', 3]) == 0
    csv = out / 'labeled-data/a' / CSV
    csv.write_text(csv.read_text() + '\n')
    corrected = csv.read_bytes()
    pictures = sorted(csv.parent.glob('*.png'))
    before = files_in(out)
    assert suggest(lab, out, 'a.mp4', options=['--n', 1]) == 2
    assert f'{CSV} corrected since' in capsys.readouterr().err
    assert files_in(out) == before
    assert suggest(lab, out, 'a.mp4', options=['--n', 1, '--fresh']) == 0
    assert (csv.parent / f'kept1_{CSV}').read_bytes() == corrected
    assert all(picture.is_file() for picture in pictures)
    # once more: nobody touched the new ones, so they are replaced
    assert suggest(lab, out, 'a.mp4', options=['--n', 2, '--fresh']) == 0
    assert (csv.parent / f'kept1_{CSV}').read_bytes() == corrected
    assert not (csv.parent / f'kept2_{CSV}').exists()
    assert all(picture.is_file() for picture in pictures)


# Command lines that cannot work


def line(model='run', target='a.mp4', out='new', **options):
    "A command line of `suggest` in the folder {d}"
    words = ['suggest', '--model', f'{{d}}/{model}', '--out', f'{{d}}/{out}']
    if target:
        words += ['--target', *(f'{{d}}/{each}' for each in target.split())]
    for option, value in options.items():
        words += ['--' + option, value]
    return words


BAD = [
    (line(n='0'), '--n: 0'),
    (line(step='0'), '--step: 0'),
    (line(threshold='2'), '--threshold: 2'),
    (line(threshold='nan'), '--threshold'),
    (line(seed='-1'), '--seed: -1'),
    (line(scorer='a/b'), '--scorer'),
    (line(device='gpu'), "torch finds no 'gpu' here"),
    (line(crop='middle'), 'middle'),
    (line(crop='gone.csv'), 'gone.csv'),
    (line(out='a.mp4'), 'a.mp4 is a file'),
    (line(out='theirs'), 'labels of another origin'),
    (line(target='stills', out='stills/out'), 'lies in the input'),
    (line(model='empty'), 'without model.pth'),
    (line(model='gone.pth'), 'gone.pth'),
    (line(model='bad.mp4'), 'bad.mp4'),
    (line(target='gone.mp4'), 'gone.mp4'),
    (line(target='a.mp4 bad.mp4'), 'bad.mp4'),
    (line(target='empty'), 'empty'),
    (line(target='stills/still0.png'), 'is a single image'),
    (line(target='', model='moved'), 'gone.mp4, which the run names, is not there'),
    (line(target='', model='run/model.pth', labels='{d}/notes.csv'), 'notes.csv'),
    (line(labels='{d}/gone.csv'), 'gone.csv: no such file'),
    (line(labels='{d}/empty'), 'has no CollectedData_*.csv'),
    (line(labels='{d}/hands.csv'), 'hands.csv'),
]


@pytest.mark.parametrize('arguments,says', BAD)
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
