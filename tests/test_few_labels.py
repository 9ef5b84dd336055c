"""Training with a few labels of the target: nothing that is held out is trained on, joints of both are learnt, and what
cannot work is said before anything is written."""

import shlex
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from fixtures_interrupted import assert_same_content, mouse_video, plain_reports  # noqa: F401
from fixtures_own import write_walking_clip
from fixtures_use import MINI, labelled_pictures
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.presets import PRESETS
from geomrecon.puppet.images import PuppetImages
from geomrecon.readers.joint_names import Labels, named_skeleton
from geomrecon.readers.label_coco import read_labels, write_coco
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.data.frames import VideoFrames
from geomrecon.data.media import Media
from geomrecon.data.video import write_video
from geomrecon.methods.catalogue import get_method
from geomrecon.use.adapt import adapt, usual_source
from geomrecon.use.cli import main
from geomrecon.use.labelled_run import LabelledJob, run_labelled, splits_of
from geomrecon.use.model_file import load_model
from geomrecon.use.suggest import suggest

FEW = MINI.changed(depth=False, restyle='', steps=2, epochs=1, adapt_epochs=1)
OPTIONS = dict(crop='whole', preset=FEW, pool=32, video=False, bar=False)


@pytest.fixture(scope='module')
def place(tmp_path_factory, plain_reports):
    "A video, pictures, and labels of them"
    folder = tmp_path_factory.mktemp('few')
    mouse_video(folder / 'mouse.mp4')
    labelled_pictures(folder, n=12)
    return folder


def checkpoints(run):
    "Weights of all trainings of a run with labels"
    states = {}
    for path in sorted(run.rglob('*.ckpt')):
        states[str(path.relative_to(run))] = torch.load(path, weights_only=True)['model']
    return states


def trained(folder, labels, out):
    "Checkpoints of a run on labels in memory"
    job = LabelledJob(
        out,
        VideoFrames(folder / 'mouse.mp4', FEW.size, 'whole', progress=False),
        LabelledFrames(labels, folder, size=FEW.size, crop='whole', progress=False),
        skeleton=MOUSE4,
        preset=FEW,
        splits=splits_of(labels.names, holdout=0.25),
        rendered=PuppetImages(MOUSE4, 32, FEW.size, 'synthetic'),
    )
    run_labelled(job, bar=False)
    return checkpoints(out), job.splits[0]


def test_held_out_frames_change_no_weight(place, tmp_path):
    "Other labels, other pictures on the held-out frames: the same weights, bit for bit"
    labels = read_labels(place / 'labels.csv', MOUSE4)
    right, split = trained(place, labels, tmp_path / 'right')
    assert len(split.held) == 3
    wrong = labels.keypoints.copy()
    wrong[split.held] = np.random.default_rng(0).uniform(10, 80, wrong[split.held].shape)
    others = tmp_path / 'others'
    others.mkdir()
    (others / 'mouse.mp4').write_bytes((place / 'mouse.mp4').read_bytes())
    (others / 'dev').mkdir()
    for row, name in enumerate(labels.names):
        picture = cv2.imread(str(place / name))
        cv2.imwrite(str(others / name), 255 - picture if row in split.held else picture)
    changed, same_split = trained(others, labels._replace(keypoints=wrong), tmp_path / 'wrong')
    assert list(same_split.held) == list(split.held)
    # which start is gone on from depends on what was measured; both starts do not
    for name in ('split_0/labels/source.ckpt', 'split_0/mixed/source.ckpt'):
        assert_same_content(right[name], changed[name])
    for name in set(right) & set(changed):
        assert_same_content(right[name], changed[name])
    # the test can fail: a label that is trained on changes weights
    moved = labels.keypoints.copy()
    moved[split.train[0]] += 5
    other, _ = trained(place, labels._replace(keypoints=moved), tmp_path / 'moved')
    with pytest.raises(AssertionError):
        assert_same_content(
            right['split_0/labels/source.ckpt'], other['split_0/labels/source.ckpt']
        )


def test_eval_labels_change_no_weight_beside_labels(place, tmp_path):
    eval_folder = tmp_path / 'eval'
    eval_folder.mkdir()
    labelled_pictures(eval_folder, n=5, name='eval.csv')
    weights = []
    for path in (None, eval_folder / 'eval.csv'):
        out = tmp_path / str(path is None)
        results = adapt(
            place / 'mouse.mp4',
            out,
            'mouse',
            labels=place / 'labels.csv',
            eval=path,
            **OPTIONS,
        )
        weights.append(checkpoints(out))
        weights[-1]['model.pth'] = load_model(out)[0].state_dict()
    assert_same_content(*weights)
    assert any('eval.csv' in note for note in results['notes'])


def test_joints_that_the_rig_lacks_are_learnt_from_labels(place, tmp_path):
    labels = read_labels(place / 'labels.csv', MOUSE4)
    skeleton = named_skeleton('more', ('Snout', 'tail_base', 'tail_tip'), ((1, 2),))
    tip = 2 * labels.keypoints[:, 3] - labels.keypoints[:, 0]
    pixels = np.stack([labels.keypoints[:, 0], labels.keypoints[:, 3], tip.clip(1, 94)], 1)
    write_coco(place / 'more.json', labels.names, pixels, skeleton, size=(96, 96))
    results = adapt(
        place / 'mouse.mp4', tmp_path / 'run', 'mouse', labels=place / 'more.json', **OPTIONS
    )
    model, joined, _, _ = load_model(tmp_path / 'run')
    assert joined.joints == (*MOUSE4.joints, 'tail_tip')
    assert model.pose.config['n_joints'] == 5
    # measured on the joints that were labelled, under the names of the rig
    assert [line['joint'] for line in results['errors']] == [
        'snout',
        'tailbase',
        'tail_tip',
        'all',
    ]


def test_rows_without_a_label_are_left_out(place, tmp_path):
    labels = read_labels(place / 'labels.csv', MOUSE4)
    pixels = labels.keypoints.copy()
    pixels[3:] = np.nan
    write_dlc_csv(place / 'three.csv', pixels, None, MOUSE4, index=labels.names)
    results = adapt(
        place / 'mouse.mp4', tmp_path / 'run', 'mouse', labels=place / 'three.csv', **OPTIONS
    )
    # three labelled frames, each held out once
    assert results['rows'][0]['frames'] == 3


BAD = [
    ('--labels {d}/none.csv', ['none.csv', 'no joint is labelled']),
    ('--labels {d}/gone.csv', ['12 of 12 labelled images are missing']),
    ('--labels {d}/absent.csv', ['absent.csv']),
    ('--labels {d}/labels.csv --holdout 1.5', ['--holdout', '1.5', '0.9']),
    ('--labels {d}/labels.csv --holdout -0.1', ['--holdout']),
    ('--holdout 0.2', ['--holdout', 'without --labels']),
    ('--labels {d}/labels.csv --eval {d}/labels.csv', ['--eval', '12 images', '--holdout']),
    ('--labels {d}/labels.csv --control', ['--control']),
    ('--labels {d}/labels.csv --set depth=true', ['--labels', 'depth=false']),
    ('--labels {d}/wing.json', ['--labels', 'no joint of', '--skeleton labels']),
    ('--labels {d}/labels.csv --method maps', ['--method', 'maps', 'no --labels']),
    ('--source matched --crop whole', ['matched', '--crop motion']),
]


@pytest.mark.parametrize('options, said', BAD, ids=[options for options, _ in BAD])
def test_refused_at_once(place, options, said, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, 'few', FEW.changed(name='few'))
    labels = read_labels(place / 'labels.csv', MOUSE4)
    nothing = np.full_like(labels.keypoints, np.nan)
    write_dlc_csv(place / 'none.csv', nothing, None, MOUSE4, index=labels.names)
    gone = [f'gone{name}' for name in labels.names]
    write_dlc_csv(place / 'gone.csv', labels.keypoints, None, MOUSE4, index=gone)
    wing = named_skeleton('wing', ('tip', 'base'), ((1, 0),))
    write_coco(place / 'wing.json', labels.names, labels.keypoints[:, :2], wing, size=(96, 96))
    before = sorted(path.name for path in place.iterdir())
    line = 'adapt --skeleton mouse --target {d}/mouse.mp4 --preset few --out {d}/new'
    if '--crop' not in options:
        line += ' --crop whole'
    assert main(shlex.split(f'{line} {options}'.format(d=place))) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1, error
    for words in said:
        assert words in error, error
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_run_on_other_labels_is_another_run(place, tmp_path, capsys):
    out = tmp_path / 'run'
    adapt(place / 'mouse.mp4', out, 'mouse', labels=place / 'labels.csv', log='csv', **OPTIONS)
    # each of its trainings has a log
    logged = {path.relative_to(out / 'logs').as_posix() for path in (out / 'logs').rglob('*.csv')}
    assert logged == {
        f'{path.relative_to(out).with_suffix("")}.csv' for path in out.rglob('*.ckpt')
    }
    labels = read_labels(place / 'labels.csv', MOUSE4)
    moved = labels.keypoints + 1
    write_dlc_csv(place / 'moved.csv', moved, None, MOUSE4, index=labels.names)
    from geomrecon.core.errors import CheckpointError

    with pytest.raises(CheckpointError, match='another run'):
        adapt(place / 'mouse.mp4', out, 'mouse', labels=place / 'moved.csv', **OPTIONS)
    # a run that was finished is not trained again
    capsys.readouterr()
    weights = checkpoints(out)
    adapt(place / 'mouse.mp4', out, 'mouse', labels=place / 'labels.csv', **OPTIONS)
    assert_same_content(weights, checkpoints(out))
    # --fresh forgets it
    adapt(place / 'mouse.mp4', out, 'mouse', labels=place / 'moved.csv', fresh=True, **OPTIONS)
    with pytest.raises(AssertionError):
        assert_same_content(weights, checkpoints(out))


def test_figures_stand_on_the_videos_background_where_labels_and_camera_allow_it(tmp_path):
    looks = [SimpleNamespace(media=Media(write_walking_clip(tmp_path).video))]

    def source_of(method='labels', **given):
        asked = SimpleNamespace(
            **{**dict(labels='few.csv', skeleton='mouse', crop='motion'), **given}
        )
        return usual_source(asked, SimpleNamespace(how=get_method(method), looks=looks))

    assert source_of() == 'matched'
    assert source_of(labels=None) == 'randomised'
    assert source_of(crop='whole') == 'randomised'
    assert source_of(skeleton='labels') == 'randomised'
    assert source_of(method='dualnet') == 'randomised'
    # a scene that changes everywhere
    noise = np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), dtype=np.uint8)
    looks[0].media = Media(write_video(tmp_path / 'shaken.mp4', noise, 20))
    assert source_of() == 'randomised'


def test_videos_are_held_out_whole():
    names = [f'labeled-data/day{day}/img{n}.png' for day in range(5) for n in range(6)]
    labels = Labels(names, None, None, None, MOUSE4)
    split = splits_of(labels.names)[0]
    assert split.by == 'video'
    held = {names[row].split('/')[1] for row in split.held}
    assert not held & {names[row].split('/')[1] for row in split.train}


def test_labels_alone_need_no_rig(place, tmp_path):
    "A DeepLabCut file has no bones: they are found, and the labelled frames are the only source"
    labels = read_labels(place / 'labels.csv')
    assert labels.skeleton.bones == ()
    results = adapt(
        place / 'mouse.mp4',
        tmp_path / 'run',
        'labels',
        labels=place / 'labels.csv',
        crop='whole',
        preset=FEW,
        video=False,
        bar=False,
    )
    assert [row['method'] for row in results['rows']] == ['labels', 'longer', 'pseudo']
    _, skeleton, _, _ = load_model(tmp_path / 'run')
    assert skeleton.joints == labels.skeleton.joints
    assert len(skeleton.bones) == 3


def test_suggested_frames_go_on_from_the_trained_net(place, tmp_path):
    "suggest, (correct,) adapt --model --labels: the folder of suggestions is a set of labels"
    target = mouse_video(tmp_path / 'long.mp4', n_frames=75)
    adapt(target, tmp_path / 'first', 'mouse', labels=place / 'labels.csv', **OPTIONS)
    suggest(tmp_path / 'first', tmp_path / 'to_label', target, n=3, threshold=0.0, bar=False)
    results = adapt(
        target,
        tmp_path / 'second',
        model=tmp_path / 'first',
        labels=tmp_path / 'to_label',
        video=False,
        bar=False,
    )
    assert [row['method'] for row in results['rows']] == ['labels', 'longer', 'pseudo']
    # three frames, each held out once
    assert results['rows'][0]['frames'] == 3
    assert load_model(tmp_path / 'second')[1].joints == MOUSE4.joints
    # the command that is written down can be typed again: what was decided from it is not in it
    command = results['made_by']['command']
    assert '--model' in command
    assert '--skeleton' not in command
    assert '--method' not in command
