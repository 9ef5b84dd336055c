"A rig from labels: what is true of rendered animals is found again, what is wrong is said, and the file works in `adapt`."

import numpy as np
import pytest
import torch
from fixtures_rig import film, lizard
from geomrecon.core.errors import ConfigError, DataError
from geomrecon.core.rigs import rest_pose
from geomrecon.core.skeleton import MOUSE4, get_skeleton, skeleton_from_file
from geomrecon.learn.presets import get_preset
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.rig_from_labels import distances, rig_from_labels
from geomrecon.puppet.show_rig import figure_mask
from geomrecon.readers.label_coco import read_labels
from geomrecon.readers.label_csv import write_dlc_csv
from geomrecon.use.adapt import adapt
from geomrecon.use.cli import main
from PIL import Image
from test_one_step import MINI


@pytest.fixture(scope='module')
def mice(tmp_path_factory):
    return film(tmp_path_factory.mktemp('mice'), 'mouse', n=40)


@pytest.fixture(scope='module')
def lizards(tmp_path_factory):
    return film(tmp_path_factory.mktemp('lizards'), lizard(), n=40, seed=1)


@pytest.fixture(scope='module')
def mouse_rig(mice, tmp_path_factory):
    out = tmp_path_factory.mktemp('rig') / 'animal.yaml'
    assert (
        main(['rig', '--labels', str(mice.labels), '--out', str(out), '--target', str(mice.video)])
        == 0
    )
    return out


def undirected(bones, joints):
    return {frozenset(joints[joint] for joint in bone) for bone in bones}


def bone_ratios(skeleton, keypoints):
    "Lengths of the bones, against the first of the skeleton"
    parent, child = np.array(skeleton.bones).T
    lengths = np.linalg.norm(keypoints[:, parent] - keypoints[:, child], axis=-1)
    return lengths[:, 1:] / lengths[:, :1]


def true_lengths(skeleton, bones, joints):
    "Lengths in the plane of the rest pose"
    rest = rest_pose(skeleton.rig)
    return np.array([np.hypot(*(rest[joints[a]] - rest[joints[b]])[:2]) for a, b in bones])


def test_a_mouse_is_found_again(mice):
    found = rig_from_labels(mice.keypoints, MOUSE4.joints, masks=mice.masks)
    ours = found.skeleton
    assert undirected(ours.bones, ours.joints) == undirected(MOUSE4.bones, MOUSE4.joints)
    assert ours.joints[ours.root] == 'tailbase'
    lengths = np.array([bone.length for bone in found.bones])
    truth = true_lengths(MOUSE4, ours.bones, ours.joints)
    assert abs(lengths[1:] / lengths[0] - truth[1:] / truth[0]).max() < 0.06


def test_an_animal_of_more_joints_is_found_again(lizards):
    truth = lizards.skeleton
    found = rig_from_labels(lizards.keypoints, truth.joints, masks=lizards.masks)
    ours = found.skeleton
    assert undirected(ours.bones, ours.joints) == undirected(truth.bones, truth.joints)
    lengths = np.array([bone.length for bone in found.bones])
    expected = true_lengths(truth, ours.bones, ours.joints)
    assert abs(lengths / lengths[0] / (expected / expected[0]) - 1).max() < 0.12
    by_child = {ours.joints[bone.child]: bone for bone in found.bones}
    assert 8 < by_child['left_foot'].turn < 40, 'legs turn by up to 18 degrees'
    assert by_child['left_knee'].radius[0] < 0.7 * max(by_child['hip'].radius), 'legs are thinner'


def test_thickness_is_that_of_the_masks(mice):
    ours = rig_from_labels(mice.keypoints, MOUSE4.joints, masks=mice.masks).skeleton
    shares = []
    for at, mask in zip(mice.keypoints, mice.masks):
        drawn = figure_mask(ours, at, mask.shape)
        shares.append((drawn & mask).sum() / (drawn | mask).sum())
    assert np.median(shares) > 0.5
    plain = rig_from_labels(mice.keypoints, MOUSE4.joints)
    assert any(line.startswith('thickness: no moving') for line in plain.not_told)


def test_rendered_figures_stay_within_the_labels(mice, mouse_rig):
    ours = skeleton_from_file(mouse_rig)
    assert ours.joints == MOUSE4.joints
    drawn = PuppetImages(ours, 300, 64, 'synthetic').labels(range(300))['keypoints'].numpy()
    rendered = bone_ratios(ours, drawn)
    labelled = bone_ratios(ours, mice.keypoints)
    low, high = labelled.min(0), labelled.max(0)
    within = (rendered > 0.8 * low) & (rendered < 1.2 * high)
    assert within.mean() > 0.95
    assert abs(np.median(rendered, 0) / np.median(labelled, 0) - 1).max() < 0.35
    pictures = PuppetImages(ours, 24, 64, 'randomised').batch(range(24))
    assert pictures['visible'].float().mean() > 0.8
    assert pictures['inside'].all()


def test_what_is_written_says_what_was_found(mice, mouse_rig):
    text = mouse_rig.read_text(encoding='utf-8')
    assert '# Could not be told:' in text
    assert '#   depth:' in text
    assert Image.open(mouse_rig.with_suffix('.png')).size[0] > 600
    assert get_skeleton(mouse_rig).turn[0] == 180


def test_adapt_takes_it(mice, mouse_rig, tmp_path):
    preset = get_preset(MINI, steps=2, epochs=1, adapt_epochs=1)
    options = dict(crop='whole', preset=preset, pool=16, video=False, bar=False)
    adapt(mice.video, tmp_path / 'run', str(mouse_rig), **options)
    assert torch.load(tmp_path / 'run' / 'model.pth', weights_only=True)['model']


def test_few_labels_are_enough_for_bones(mice, lizards):
    for film_of, n in ((mice, 5), (lizards, 5)):
        joints = film_of.skeleton.joints
        ours = rig_from_labels(film_of.keypoints[:n], joints)
        assert undirected(ours.skeleton.bones, joints) == undirected(film_of.skeleton.bones, joints)
        assert any('rest on 5 frames' in line for line in ours.not_told)
        PuppetImages(ours.skeleton, 4, 48).batch(range(4))


def test_both_facings_from_the_side():
    "A fish that swims to the left and to the right: one shape, not two"
    random = np.random.default_rng(0)
    fish = np.array([[0, 0], [30, 0], [60, 4], [35, 18], [30, -12]], float)
    frames = np.stack([fish + random.normal(0, 0.7, fish.shape) for _ in range(30)])
    frames[::2] *= [-1, 1]
    ours = rig_from_labels(frames, ['tail', 'middle', 'nose', 'belly', 'fin'])
    assert any('15 of 30 frames' in line for line in ours.not_told)
    assert ours.skeleton.turn[0] < 30, 'it heads one way'
    assert max(bone.turn for bone in ours.bones) < 20


def test_a_joint_seen_rarely_and_one_never_seen(mice):
    more = np.full((40, 6, 2), np.nan)
    more[:, :4] = mice.keypoints
    more[:2, 4] = mice.keypoints[:2, 3] + [0, 9]
    ours = rig_from_labels(more, [*MOUSE4.joints, 'tailtip', 'whisker'])
    assert ours.skeleton.joints == (*MOUSE4.joints, 'tailtip')
    assert any(line.startswith('tailbase-tailtip: labelled in 2 frames') for line in ours.not_told)
    assert any(line.startswith('whisker: never') for line in ours.not_told)


def test_sizes_that_vary_with_the_camera(mice):
    zoomed = mice.keypoints * np.linspace(0.5, 2, 40)[:, None, None]
    ours = rig_from_labels(zoomed, MOUSE4.joints)
    assert undirected(ours.skeleton.bones, MOUSE4.joints) == undirected(MOUSE4.bones, MOUSE4.joints)
    assert any('size in the picture varies' in line for line in ours.not_told)
    assert ours.bones[0].lengths[1] / ours.bones[0].lengths[0] < 2


BAD = [
    ('--out animal.txt', '--out', '.yaml'),
    ('--out there.yaml', '--out', '--fresh'),
    ('--out file/animal.yaml', '--out', 'is a file'),
    ('--labels none.csv', 'none.csv', 'no such file'),
    ('--labels empty.csv', 'empty.csv', ''),
    ('--labels nan.csv', '0 of 4 frames', 'at least 3'),
    ('--labels one.csv', '1 joint', 'at least two'),
    ('--labels two_frames.csv', '2 of 2 frames', 'at least 3'),
    ('--labels views.csv', '2 views', "--joints '*_top'"),
    ('--bones snaut-tailbase', '--bones', 'nearest: snout'),
    ('--bones snout-tailbase snout-leftear', '--bones', 'no way from snout to rightear'),
    ('--bones snout-tailbase snout-leftear leftear-tailbase', '--bones', 'closes a loop'),
    ('--root tail', '--root', 'nearest: tailbase'),
    ('--joints paw*', '--joints', 'paw*'),
    ('--joints snout', '1 joint', 'at least two'),
    ('--target none.mp4', 'none.mp4', 'no such file'),
    ('--images nowhere', 'nowhere', 'no such folder'),
    ('--report animal.jpg', '--report', '.png'),
    ('--show mouse', '--show', 'one of the two'),
]


@pytest.fixture(scope='module')
def place(mice):
    "Label files that are wrong, beside those that are right"
    folder = mice.folder
    names = [f'frames/img{i:03d}.png' for i in range(4)]
    some = mice.keypoints[:4]
    write_dlc_csv(folder / 'nan.csv', some * np.nan, None, MOUSE4, index=names)
    write_dlc_csv(folder / 'two_frames.csv', some[:2], None, MOUSE4, index=names[:2])
    text = (folder / 'two_frames.csv').read_text().splitlines()
    (folder / 'empty.csv').write_text('\n'.join(text[:3]) + '\n')
    one = [','.join(line.split(',')[:3]) for line in mice.labels.read_text().splitlines()]
    (folder / 'one.csv').write_text('\n'.join(one) + '\n')
    views = mice.labels.read_text()
    for old, new in zip(MOUSE4.joints, ('nose_top', 'tail_top', 'nose_bot', 'tail_bot')):
        views = views.replace(old, new)
    (folder / 'views.csv').write_text(views)
    (folder / 'there.yaml').write_text('mine')
    (folder / 'file').write_text('a file')
    return folder


@pytest.mark.parametrize('options, where, expected', BAD)
def test_one_line_and_nothing_written(place, options, where, expected, capsys, monkeypatch):
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in sorted(place.rglob('*'))}
    command = ['rig', *options.split()]
    for option, value in (('--labels', 'labels.csv'), ('--out', 'new.yaml')):
        if option not in command:
            command += [option, value]
    assert main(command) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert where in told[0]
    assert expected in told[0]
    assert before == {path: path.stat().st_mtime_ns for path in sorted(place.rglob('*'))}


def test_a_folder_that_may_not_be_written_to(place, tmp_path, capsys):
    locked = tmp_path / 'locked'
    locked.mkdir()
    locked.chmod(0o500)
    try:
        (locked / 'probe').write_text('')
        pytest.skip('whoever runs this may write anywhere')
    except OSError:
        pass
    assert (
        main(['rig', '--labels', str(place / 'labels.csv'), '--out', str(locked / 'a.yaml')]) == 2
    )
    assert 'may not be written to' in capsys.readouterr().err


def test_arrays_are_checked_as_well():
    joints = list('abc')
    with pytest.raises(DataError, match='no frames'):
        rig_from_labels(np.zeros((0, 3, 2)), joints)
    with pytest.raises(DataError, match='0 of 5 frames'):
        rig_from_labels(np.full((5, 3, 2), np.nan), joints)
    with pytest.raises(ConfigError, match='closes a loop'):
        points = np.random.default_rng(0).random((5, 3, 2))
        rig_from_labels(points, joints, bones=['a-b', 'b-c', 'c-a'])


def test_openfield(openfield, tmp_path, capsys):
    "A rig of the real mouse: its known label error is found, and rendered mice have its proportions"
    out = tmp_path / 'mouse.yaml'
    assert main(['rig', '--labels', str(openfield / 'dev_labels.csv'), '--out', str(out)]) == 0
    told = capsys.readouterr().out
    assert 'img0102.png: left and right look confused' in told
    assert '39 of 39 frames' in told
    ours = skeleton_from_file(out)
    assert undirected(ours.bones, ours.joints) == undirected(MOUSE4.bones, MOUSE4.joints)
    labels = read_labels(openfield / 'dev_labels.csv').keypoints
    drawn = PuppetImages(ours, 200, 64, 'synthetic').labels(range(200))['keypoints'].numpy()
    between_ears = []
    for points in (drawn, labels):
        apart = np.median(distances(points), 0)
        between_ears.append(apart[1, 2] / apart[3, 0])
    assert abs(between_ears[0] - between_ears[1]) < 0.05
    medians = [np.median(bone_ratios(ours, points), 0) for points in (drawn, labels)]
    assert abs(medians[0] - medians[1]).max() < 0.04
