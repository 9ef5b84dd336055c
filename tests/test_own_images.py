"""Own labelled images as a source: what samples hold, options, and bad rows, files and folders."""

import json
from pathlib import Path
import numpy as np
import pytest
from fixtures_own import (
    JOINTS,
    table,
    three,
    write_clips,
    write_coco_tree,
    write_dlc_tree,
    write_images,
    write_lightning_tree,
)
from geomrecon.core.errors import DataError, LabelError, MediaError
from geomrecon.core.geometry import to_pixels
from geomrecon.data.frames import VideoFrames
from geomrecon.data.pairs import FramePairs, pose_dls
from geomrecon.readers.labelled_images import CocoPoses, DlcPoses

quiet = pytest.mark.filterwarnings('ignore')


def labelled_pixels(source):
    "(N,K,2) pixels of the joints, NaN where not visible"
    return np.where(source.visible[..., None], source.keypoints, np.nan)


def close(got, expected, atol=1e-3):
    "Equal to within `atol`, and NaN at the same places"
    return np.allclose(got, expected, atol=atol, equal_nan=True)


def dot_errors(source, reach=7):
    "Distance in crop pixels between the drawn dot on the snout and its label"
    batch = source.batch(range(len(source)))
    images = batch['image'].float().mean(1).numpy()
    side = images.shape[-1]
    snouts = to_pixels(batch['keypoints'][:, 0], side).numpy()
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1)
    errors = []
    for image, snout in zip(images, snouts):
        near = np.linalg.norm(grid - snout, axis=-1) < reach
        mass = (image - 165).clip(0) * near
        dot = (grid * mass[..., None]).sum((0, 1)) / mass.sum()
        errors.append(np.linalg.norm(dot - snout))
    return np.array(errors)


def edit_json(path, change):
    "Let `change` work on the contents of a JSON file"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_cell(path, row, column, text):
    "Put another text into a cell of a CSV"
    rows = path.read_text().split('\n')
    cells = rows[row].split(',')
    cells[column] = text
    rows[row] = ','.join(cells)
    path.write_text('\n'.join(rows))


# COCO


@pytest.fixture
def coco(tmp_path):
    "A function that opens the COCO tree at `tmp_path`; its truth is `coco.truth`"

    def build(**kwargs):
        return CocoPoses(tmp_path / 'train.json', tmp_path / 'images', 'mouse', size=64, **kwargs)

    build.truth = write_coco_tree(tmp_path, state=True)
    build.json = tmp_path / 'train.json'
    return build


@pytest.mark.parametrize('crop', ['box', 'joints', 'whole', [0, 0, 100, 96]])
def test_coco_crops_show_what_the_labels_say(coco, crop):
    source = coco(crop=crop)
    labelled = coco.truth['state'][..., None] > 0
    assert len(source) == 7
    assert dot_errors(source)[[0, 2, 4]].max() < 0.1
    expected = np.where(labelled, coco.truth['keypoints'], np.nan)
    assert close(labelled_pixels(source), expected)


def test_coco_boxes_are_squares_around_those_of_the_file(coco):
    truth = coco.truth['boxes']
    boxes = coco().pictures.box
    side = 1.25 * truth[:, 2:].max(1)
    assert np.allclose(boxes[:, 2], side, atol=0.05)
    centres = boxes[:, :2] + side[:, None] / 2
    assert np.allclose(centres, truth[:, :2] + truth[:, 2:] / 2, atol=0.05)


def test_coco_which_joints_count(coco):
    assert coco().visible.sum() == 27
    assert coco(visibility='visible').visible.sum() == 26
    complete = coco(min_keypoints=4)
    assert len(complete) == 6
    assert complete.report['few keypoints'] == 1


def test_coco_images_are_stills(coco):
    source = coco()
    assert len(np.unique(source.video_id)) == 6
    # two animals of one image
    assert source.video_id[2] == source.video_id[3]
    with pytest.raises(DataError, match='no two frames'):
        FramePairs(source.frames(), (1, 5))


def test_coco_without_box_size_or_with_a_crowd(coco):
    def change(content):
        content['annotations'][0]['iscrowd'] = 1
        content['annotations'][1].pop('bbox')
        for image in content['images']:
            image.pop('height')

    edit_json(coco.json, change)
    source = coco()
    assert len(source) == 6
    assert dot_errors(source)[[1, 3]].max() < 0.1


# DeepLabCut and Lightning Pose


both_files = pytest.mark.parametrize('name', ['CollectedData_lab.csv', 'CollectedData_lab.h5'])


@both_files
def test_dlc_source(tmp_path, name):
    truth = write_dlc_tree(tmp_path)
    source = DlcPoses(tmp_path / name, skeleton='mouse', size=64)
    assert close(labelled_pixels(source), truth['keypoints'])
    assert dot_errors(source).max() < 0.12


@both_files
def test_dlc_folder_is_a_video(tmp_path, name):
    write_dlc_tree(tmp_path)
    source = DlcPoses(tmp_path / name, skeleton='mouse', size=64)
    assert (source.frame == range(6)).all()
    assert len(np.unique(source.video_id)) == 1
    pairs = FramePairs(source.frames(), (1, 2))
    base, driving = pairs.sample(range(6), np.random.default_rng(0))
    assert (np.abs(base - driving) <= 2).all()


@both_files
def test_dlc_boxes_from_a_file(tmp_path, name):
    write_dlc_tree(tmp_path)
    boxes = np.tile([[0, 0, 96, 96]], (6, 1))
    boxes[4] = [10, 0, 80, 80]
    rows = [','.join(map(str, box)) for box in boxes]
    (tmp_path / 'b.csv').write_text('\n'.join(['x,y,w,h', *rows]))
    crop = str(tmp_path / 'b.csv')
    folder = tmp_path / 'labeled-data'
    source = DlcPoses(tmp_path / name, folder, 'mouse', crop=crop, size=64)
    assert np.allclose(source.pictures.box, boxes)
    assert dot_errors(source).max() < 0.12
    with pytest.raises(DataError, match='2 boxes'):
        DlcPoses(tmp_path / name, crop=boxes[:2])


@both_files
def test_dlc_options(tmp_path, name):
    write_dlc_tree(tmp_path)
    assert len(DlcPoses(tmp_path / name, min_keypoints=4)) == 5
    assert DlcPoses(tmp_path / name).skeleton.flip_pairs == ((1, 2),)


def test_dlc_joints_under_other_names(tmp_path):
    truth = write_dlc_tree(tmp_path, h5=False)
    path = tmp_path / 'CollectedData_lab.csv'
    text = path.read_text().replace('leftear', 'Ear_L').replace('rightear', 'right-ear')
    path.write_text(text.replace('snout', 'nose'))
    source = DlcPoses(path, tmp_path, 'mouse', rename='auto', names={'nose': 'snout'}, size=64)
    assert close(labelled_pixels(source), truth['keypoints'])


def test_lightning_source_and_likelihood(tmp_path):
    write_lightning_tree(tmp_path)
    path = tmp_path / 'predictions.csv'
    edit_cell(path, row=4, column=6, text='0.2')
    source = DlcPoses(path, skeleton='mouse', min_likelihood=0.5, size=64)
    assert len(source) == 6
    # one joint is less likely than that
    assert (~source.visible).sum() == 1
    assert not source.visible[1, 1]
    assert dot_errors(source).max() < 0.12


def test_several_animals_as_samples(tmp_path):
    folder = tmp_path / 'labeled-data' / 'clip'
    truth = write_images(folder, 4, several=(0, 1, 2, 3))
    keypoints = truth['keypoints'].reshape(4, 2, 4, 2)
    keypoints[1, 1] = np.nan
    frame = table(keypoints, three(truth['names'][::2]), individuals=('a', 'b'))
    path = tmp_path / 'x.h5'
    frame.to_hdf(path, key='df_with_missing', mode='w')
    source = DlcPoses(path, skeleton='mouse', size=64)
    assert len(source) == 7
    assert dot_errors(source).max() < 0.12
    assert len(DlcPoses(path, individual='b')) == 3


# Training


@pytest.mark.parametrize('store', ['none', 'disk'])
def test_training_with_workers(tmp_path, store):
    write_coco_tree(tmp_path)
    write_clips(tmp_path / 'v')
    source = CocoPoses(tmp_path / 'train.json', tmp_path / 'images', 'mouse', size=32)
    target = VideoFrames(tmp_path / 'v', 32, store=store, cache=tmp_path / 'c', progress=False)
    target.images([0])
    dls = pose_dls(
        source,
        source,
        target,
        steps=4,
        bs=4,
        stride=(2, 5),
        num_workers=2,
        device='cpu',
    )
    for batch in dls.train:
        assert batch[0].shape == (4, 3, 32, 32)
        assert batch[1].shape == (4, 3, 32, 32)
        assert batch[2].shape == (4, 3, 32, 32)


def test_pairs_are_of_one_video_and_within_the_stride(tmp_path):
    write_clips(tmp_path / 'v')
    frames = VideoFrames(tmp_path / 'v', 32, store='disk', cache=tmp_path / 'c', progress=False)
    pairs = FramePairs(frames, (2, 5))
    base, driving = pairs.sample(np.arange(len(pairs)), np.random.default_rng(0))
    assert (frames.video_id[base] == frames.video_id[driving]).all()
    stride = np.abs(frames.frame[base] - frames.frame[driving])
    assert np.isin(stride, range(2, 6)).all()


# Bad input


def small_coco(root, on_error='raise'):
    images = root / 'images'
    return CocoPoses(root / 'train.json', images, 'mouse', size=32, on_error=on_error)


def first_annotation(**changes):
    "A change of the first annotation"
    return lambda content: content['annotations'][0].update(changes)


def annotation_twice(content):
    content['annotations'].append(dict(content['annotations'][0]))


def image_gone(content):
    content['images'][0]['file_name'] = 'no.png'


@quiet
@pytest.mark.parametrize(
    'change,text,kind',
    [
        (first_annotation(keypoints=[1, 2, 2] * 3), '9 numbers', 'annotation'),
        (first_annotation(keypoints=[float('nan')] * 12), 'not finite', 'annotation'),
        (first_annotation(keypoints=[1e9, 1, 2] * 4), 'beyond', 'annotation'),
        (first_annotation(keypoints='text'), 'annotation 100', 'annotation'),
        (first_annotation(image_id=999), 'not listed', 'annotation'),
        (first_annotation(bbox=[1000, 10, 30, 30]), 'outside', 'box outside the image'),
        (first_annotation(keypoints=[90000, 90000, 2] * 4), 'ten images', 'absurd keypoint'),
        (annotation_twice, 'twice', 'duplicate'),
        (image_gone, 'missing', 'missing image'),
    ],
)
def test_coco_bad_rows_raise_or_are_left_out(tmp_path, change, text, kind):
    write_coco_tree(tmp_path, 4)
    edit_json(tmp_path / 'train.json', change)
    with pytest.raises((LabelError, MediaError), match=text):
        small_coco(tmp_path)
    source = small_coco(tmp_path, 'skip')
    assert source.report[kind] == 1, source.report
    assert len(source) >= 4
    assert len(source.batch(range(len(source)))['image']) == len(source)


def no_annotations(content):
    content['annotations'] = []


def no_category_with_joints(content):
    content['categories'].pop()


def three_joints(content):
    content['categories'][1]['keypoints'] = JOINTS[:3]


def no_images(content):
    content.pop('images')


def images_no_list(content):
    content['images'] = {}


def all_crowds(content):
    for annotation in content['annotations']:
        annotation['iscrowd'] = 1


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
@pytest.mark.parametrize(
    'change,text',
    [
        (no_annotations, 'no annotation'),
        (no_category_with_joints, 'no category'),
        (three_joints, 'lacks'),
        (no_images, 'images'),
        (images_no_list, 'images'),
        (all_crowds, 'no annotation'),
    ],
)
def test_coco_bad_files_raise_in_any_case(tmp_path, change, text, on_error):
    write_coco_tree(tmp_path, 3)
    edit_json(tmp_path / 'train.json', change)
    with pytest.raises((LabelError, DataError), match=text):
        small_coco(tmp_path, on_error)


def test_missing_folders(tmp_path):
    with pytest.raises(DataError, match='no.json.*folder of images'):
        CocoPoses(tmp_path / 'no.json', tmp_path / 'nowhere')
    with pytest.raises(DataError, match='no.h5'):
        DlcPoses(tmp_path / 'no.h5', tmp_path)


def test_empty_files(tmp_path):
    for name in ('e.csv', 'e.h5', 'e.json'):
        (tmp_path / name).write_bytes(b'')
        with pytest.raises(LabelError, match=name):
            DlcPoses(tmp_path / name, tmp_path)
    with pytest.raises(LabelError, match='e.json'):
        CocoPoses(tmp_path / 'e.json', tmp_path)


def write_bad_rows(root, name):
    "Labels of six images, of which the rows 0 and 2 are unusable, 3 absurd, and 5 empty"
    truth = write_dlc_tree(root)
    keypoints = truth['keypoints'].copy()
    keypoints[0, 0, 0] = np.nan
    keypoints[2, 1] = 1e7
    keypoints[3] = 5e4
    keypoints[5] = np.nan
    frame = table(keypoints, three(truth['names']))
    if name.endswith('csv'):
        frame.to_csv(root / name)
    else:
        frame.to_hdf(root / name, key='df_with_missing', mode='w')


@quiet
@both_files
def test_dlc_bad_rows(tmp_path, name):
    write_bad_rows(tmp_path, name)
    with pytest.raises(LabelError, match='img000.png.*snout|img002.png.*leftear'):
        DlcPoses(tmp_path / name, skeleton='mouse', size=32)

    images = tmp_path / 'labeled-data' / 'clip'
    (images / 'img004.png').unlink()
    source = DlcPoses(tmp_path / name, skeleton='mouse', size=32, on_error='skip')
    assert len(source) == 1
    assert source.report['label row'] == 2
    assert source.report['absurd keypoint'] == 1
    assert source.report['missing image'] == 1

    # the last image is cut short after it was found
    whole = (images / 'img001.jpg').read_bytes()
    (images / 'img001.jpg').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match='img001.jpg'):
        source.batch([0])


def test_text_in_a_cell(tmp_path):
    write_dlc_tree(tmp_path, h5=False)
    path = Path(tmp_path / 'CollectedData_lab.csv')
    edit_cell(path, row=4, column=5, text='oops')
    with pytest.raises(LabelError, match="img001.jpg.*leftear.*'oops'"):
        DlcPoses(path)
    with pytest.warns(UserWarning, match='oops'):
        source = DlcPoses(path, on_error='skip')
    assert len(source) == 5
