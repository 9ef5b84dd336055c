"""What label files, pictures and videos of the field really hold: one test for each kind of fault that was found in use."""

import builtins
import inspect
import itertools
import json
import struct
import types
import warnings
import cv2
import numpy as np
import pandas as pd
import pytest
import scipy.io
from PIL import Image
from fixtures_hands import write_freihand
from fixtures_own import JOINTS, coco_dict, figure, table, write_coco_tree, write_dlc_tree
from fixtures_surreal import write_lsp, write_surreal
from geomrecon.core.errors import DataError, LabelError, MediaError
from geomrecon.data.images import image_size, read_image
from geomrecon.data.media import Media
from geomrecon.data.video import read_video, video_info, write_video
from geomrecon.data.video_reader import VideoReader
from geomrecon.readers.catalogue import open_dataset
from geomrecon.readers.freihand import FreiHAND
from geomrecon.readers.h36m import Human36M
from geomrecon.readers.h3d import _natural_key, group_names
from geomrecon.readers.label_coco import coco_skeleton, read_coco, read_labels
from geomrecon.readers.label_csv import read_dlc_csv
from geomrecon.readers.labelled_frames import LabelledFrames
from geomrecon.readers.labelled_images import CocoPoses, DlcPoses
from geomrecon.readers.lsp import LSP
from geomrecon.readers.surreal import SURREAL
from geomrecon.readers.surreal_crops import SURREALCrops

quiet = pytest.mark.filterwarnings('ignore')


def warned(function, *args, **kwargs):
    "What a function returns, and the warnings it gives"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        result = function(*args, **kwargs)
    return result, caught


def edit(path, change):
    "Let `change` work on the contents of a JSON file"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


# 2. Labels of one video on another video's frames


@pytest.fixture
def two_videos(tmp_path):
    "Two videos with pictures of the same names, and labels of both in one CSV and one H5"
    random = np.random.default_rng(0)
    names, keypoints = [], []
    for folder in ('vidA', 'vidB'):
        (tmp_path / 'labeled-data' / folder).mkdir(parents=True)
        for number in range(3):
            floor = np.full((96, 128, 3), 90, np.uint8)
            image, joints = figure(floor, random.uniform(40, 60, 2), random.uniform(0, 6))
            name = f'labeled-data/{folder}/img{number}.png'
            Image.fromarray(image).save(tmp_path / name)
            names.append(name)
            keypoints.append(joints)
    frame = table(np.array(keypoints), names)
    frame.to_csv(tmp_path / 'labels.csv')
    frame.to_hdf(tmp_path / 'labels.h5', key='df_with_missing', mode='w')
    return tmp_path


@quiet
@pytest.mark.parametrize('file', ['labels.csv', 'labels.h5'])
@pytest.mark.parametrize('root', ['', 'labeled-data'])
def test_2_both_videos_are_found_from_above(two_videos, file, root):
    source = DlcPoses(two_videos / file, two_videos / root, 'mouse')
    files = [str(source.file(i).relative_to(two_videos)) for i in range(6)]
    assert files == read_labels(two_videos / file).names


@quiet
@pytest.mark.parametrize('file', ['labels.csv', 'labels.h5'])
def test_2_labels_of_one_video_never_land_on_the_other(two_videos, file):
    only = two_videos / 'labeled-data' / 'vidB'
    truth = read_labels(two_videos / file).keypoints[3:]
    source = DlcPoses(two_videos / file, only, 'mouse', on_error='skip')
    assert len(source) == 3
    assert np.allclose(source.keypoints, truth)
    assert source.report['missing image'] == 3
    with pytest.raises(MediaError, match='vidA/img0.png.*missing'):
        DlcPoses(two_videos / file, only, 'mouse')
    with pytest.raises(MediaError, match='3 of 6 labelled images are missing.*vidA/img0.png'):
        LabelledFrames(read_labels(two_videos / file), only)


@quiet
def test_2_a_folder_that_could_be_either_is_refused(two_videos):
    "Whatever `on_error` says: which labels are its own cannot be told"
    (two_videos / 'labeled-data' / 'vidA').rename(two_videos / 'frames')
    for on_error in ('raise', 'skip'):
        with pytest.raises(MediaError, match='cannot be told'):
            DlcPoses(two_videos / 'labels.csv', two_videos / 'frames', on_error=on_error)
    with pytest.raises(MediaError, match='cannot be told'):
        LabelledFrames(read_labels(two_videos / 'labels.csv'), two_videos / 'frames')


@quiet
def test_2_a_picture_of_that_name_elsewhere_takes_no_labels(two_videos):
    missing = two_videos / 'labeled-data' / 'vidB' / 'img1.png'
    missing.rename(two_videos / 'img1.png')  # in a folder above
    source = DlcPoses(two_videos / 'labels.csv', two_videos, 'mouse', on_error='skip')
    assert len(source) == 5
    assert source.report['missing image'] == 1
    with pytest.raises(MediaError, match='vidB/img1.png'):
        LabelledFrames(read_labels(two_videos / 'labels.csv'), two_videos)


@quiet
def test_2_two_names_of_one_file_are_an_error(tmp_path):
    write_coco_tree(tmp_path, 3)

    def rename(content):
        content['images'][1]['file_name'] = './' + content['images'][0]['file_name']

    edit(tmp_path / 'train.json', rename)
    with pytest.raises(LabelError, match='img000.png and ./img000.png are one file'):
        CocoPoses(tmp_path / 'train.json', tmp_path / 'images', 'mouse')
    rest = CocoPoses(tmp_path / 'train.json', tmp_path / 'images', 'mouse', on_error='skip')
    assert rest.report['image with two names'] == 2
    assert len(rest) == 2


# 3. Several categories


def more_kinds(content):
    "A kind of animal for each annotation, as in AP-10K: the same joints for all"
    kind = content['categories'][1]
    content['categories'] = []
    for number, annotation in enumerate(content['annotations']):
        annotation['category_id'] = number
        content['categories'].append(dict(kind, id=number, name=f'kind{number}'))


def test_3_categories_with_the_same_joints_are_read_together(tmp_path):
    truth = write_coco_tree(tmp_path, 4)
    path = edit(tmp_path / 'train.json', more_kinds)
    for skeleton in ('mouse', None):
        labels = read_coco(path, skeleton)
        assert np.allclose(labels.keypoints, truth['keypoints'], atol=1e-3)
        assert len(CocoPoses(path, tmp_path / 'images', skeleton)) == 5
    assert len(read_coco(path, None, category='kind3').names) == 1
    assert len(read_coco(path, None, category=3).names) == 1


def test_3_categories_with_other_joints_are_counted_in_an_error(tmp_path):
    write_coco_tree(tmp_path, 4)

    def change(content):
        more_kinds(content)
        content['categories'][2]['keypoints'] = JOINTS[::-1]

    path = edit(tmp_path / 'train.json', change)
    for skeleton in ('mouse', None):
        with pytest.raises(LabelError, match=r"'kind0' \(1 of 4 joints\).*category="):
            read_coco(path, skeleton)
    labels = read_coco(path, 'mouse', category='all')
    assert len(labels.names) == 5
    # each category's joints are found by its own names
    stored = json.loads(path.read_text())['annotations'][2]['keypoints']
    assert np.allclose(labels.keypoints[2][::-1].ravel(), np.delete(stored, [2, 5, 8, 11]))


def test_3_what_does_not_fit_the_skeleton_is_left_out_with_a_count(tmp_path):
    write_coco_tree(tmp_path, 4)

    def change(content):
        more_kinds(content)
        content['categories'][0]['keypoints'] = ['wing', 'leg', 'head', 'sting']

    path = edit(tmp_path / 'train.json', change)
    labels, told = warned(read_coco, path, 'mouse')
    assert len(labels.names) == 4
    assert "'kind0' (1 of 4 joints)" in str(told[0].message)
    assert told[0].filename == __file__  # the warning is at the call


# 4. Joints outside the picture


@pytest.mark.parametrize('nowhere', [(-1, -1), (0, 0), (50, -25), (500, 20)])
def test_4_joints_outside_are_invisible_in_every_format(tmp_path, nowhere):
    truth = write_dlc_tree(tmp_path, 3)
    keypoints = truth['keypoints'].copy()
    inside = DlcPoses(tmp_path / 'CollectedData_lab.csv', tmp_path, 'mouse')
    names = [f'labeled-data/clip/{name}' for name in truth['names']]
    keypoints[0, 3] = np.nan
    table(keypoints, names).to_csv(tmp_path / 'without.csv')
    without = DlcPoses(tmp_path / 'without.csv', tmp_path, 'mouse')
    keypoints[0, 3] = nowhere
    table(keypoints, names).to_csv(tmp_path / 'with.csv')
    table(keypoints, names).to_hdf(tmp_path / 'with.h5', key='df_with_missing', mode='w')
    state = np.isfinite(keypoints).all(-1) * 2
    boxes = without.pictures.box
    whole = dict(truth, keypoints=np.nan_to_num(keypoints), names=names, boxes=boxes)
    (tmp_path / 'with.json').write_text(json.dumps(coco_dict(whole, state)))
    sources = [
        DlcPoses(tmp_path / 'with.csv', tmp_path, 'mouse'),
        DlcPoses(tmp_path / 'with.h5', tmp_path, 'mouse'),
        CocoPoses(tmp_path / 'with.json', tmp_path, 'mouse', crop='joints', margin=1.5),
    ]
    for source in sources:
        assert source.visible[0].tolist() == [True, True, True, False]
        assert source.n_outside.tolist() == [1, 0, 0]
        assert source.summary(show=False)['joints_outside'] == 1
        assert np.allclose(source.pictures.box, without.pictures.box, atol=1e-2)  # it does not grow
    assert inside.visible[0].all()
    assert inside.summary(show=False)['joints_outside'] == 0
    measured = LabelledFrames(
        read_labels(tmp_path / 'with.csv'), tmp_path, crop='whole', progress=False
    )
    assert measured.visible[0].tolist() == [True, True, True, False]
    assert measured.n_outside.tolist() == [1, 0, 0]


def test_4_an_animal_wholly_outside_is_counted(tmp_path):
    write_coco_tree(tmp_path, 3)

    def change(content):
        content['annotations'][0]['keypoints'] = [-1, -1, 2] * 4

    path = edit(tmp_path / 'train.json', change)
    source = CocoPoses(path, tmp_path / 'images', 'mouse')
    assert len(source) == 3
    assert source.report['few keypoints'] == 1
    with pytest.raises(DataError, match='lie outside their images'):
        edit(path, lambda content: content['annotations'].__delitem__(slice(1, None)))
        CocoPoses(path, tmp_path / 'images', 'mouse')


@quiet
def test_4_data_sets_leave_joints_outside_out_by_default(tmp_path, monkeypatch):
    write_surreal(tmp_path)
    monkeypatch.setattr('geomrecon.readers.surreal._SURREAL_SIZE', (140, 200))  # people reach out
    source = SURREAL(tmp_path, images=False)
    everything = SURREAL(tmp_path, images=False, visibility='all')
    beyond = (source.keypoints < -0.5).any(-1) | (source.keypoints > [199.5, 139.5]).any(-1)
    assert beyond.any() and not beyond.all()
    assert (source.visible == ~beyond).all()
    assert everything.visible.all()
    for reader in (source, everything):
        assert reader.summary(show=False)['joints_outside'] == beyond.sum()


@pytest.mark.parametrize('reader,option', [(SURREALCrops, 'visibility'), (Human36M, 'visible')])
def test_4_other_data_sets_have_the_same_default(reader, option):
    assert inspect.signature(reader).parameters[option].default == 'inside'


# 5. Bones counted from 0, or of another skeleton


def bones_of(stored, n_joints=4):
    "Bones of a category, and what the warnings say"
    category = dict(name='rat', keypoints=[f'joint{i}' for i in range(n_joints)], skeleton=stored)
    skeleton, told = warned(coco_skeleton, category, 'a.json')
    return skeleton.bones, ' '.join(str(warning.message) for warning in told)


def test_5_a_zero_tells_the_counting():
    assert bones_of([[0, 2], [1, 2], [2, 3]]) == (((0, 2), (1, 2), (2, 3)), '')
    assert bones_of([[1, 3], [2, 3], [3, 4]]) == (((0, 2), (1, 2), (2, 3)), '')


def test_5_what_is_not_sure_or_impossible_is_said():
    bones, told = bones_of([[1, 3], [2, 3], [3, 4]], n_joints=5)  # counted from 0 or from 1
    assert bones == ((0, 2), (1, 2), (2, 3))
    assert 'neither a joint 0 nor a joint 5' in told
    crowdpose = [[16, 14], [14, 12], [17, 15], [12, 13], [1, 2], [5, 7]]
    bones, told = bones_of(crowdpose, n_joints=14)
    assert bones == ((13, 11), (11, 12), (0, 1), (4, 6))
    assert '2 of 6 bones' in told
    bones, told = bones_of([[0, 1], [3, 4], [2, 2], [-1, 2]])
    assert bones == ((0, 1),)
    assert '[3, 4], [2, 2], [-1, 2]' in told


def test_5_a_file_counted_from_0_is_read(tmp_path):
    write_coco_tree(tmp_path, 2)

    def change(content):
        content['categories'][1]['skeleton'] = [[3, 0], [0, 1], [0, 2]]

    assert read_coco(edit(tmp_path / 'train.json', change), None).skeleton.bones[0] == (3, 0)


# 6. What stands before v=0


@pytest.mark.parametrize('nothing', [float('nan'), None, 1e9, -5])
def test_6_v_0_is_not_labelled_whatever_stands_before_it(tmp_path, nothing):
    truth = write_coco_tree(tmp_path, 3)

    def change(content):
        content['annotations'][0]['keypoints'][3:6] = [nothing, nothing, 0]

    path = edit(tmp_path / 'train.json', change)
    labels = read_coco(path, 'mouse')
    assert len(labels.names) == 4
    assert labels.visible[0].tolist() == [True, False, True, True]
    assert np.allclose(labels.keypoints[0, [0, 2, 3]], truth['keypoints'][0, [0, 2, 3]], atol=1e-3)
    assert len(CocoPoses(path, tmp_path / 'images', 'mouse')) == 4


def test_6_the_hands_of_mmpose_too(tmp_path):
    write_freihand(tmp_path, form='mmpose')

    def change(content):
        content['annotations'][0]['keypoints'][3:6] = [None, float('nan'), 0]

    edit(tmp_path / 'annotations' / 'freihand_train.json', change)
    source = FreiHAND(tmp_path, images=False)
    assert not source.visible[0, 1]
    assert source.visible[0].sum() == 20

    def contradict(content):
        content['annotations'][0]['keypoints'][3:6] = [None, 5, 2]

    edit(tmp_path / 'annotations' / 'freihand_train.json', contradict)
    with pytest.raises(LabelError, match='annotation 0: has NaN'):
        FreiHAND(tmp_path, images=False)


def test_6_nan_under_a_label_is_refused(tmp_path):
    write_coco_tree(tmp_path, 2)

    def change(content):
        content['annotations'][0]['keypoints'][3:6] = [float('nan'), 5, 2]

    with pytest.raises(LabelError, match='annotation 100: a coordinate is not finite'):
        read_coco(edit(tmp_path / 'train.json', change), 'mouse')


# 7. Two animals of one picture


@pytest.mark.parametrize('crop', ['whole', [0, 0, 128, 96]])
def test_7_two_animals_are_told_apart_by_all_joints(tmp_path, crop):
    write_coco_tree(tmp_path, 3)

    def hide_snouts(content):
        for annotation in content['annotations']:
            annotation['keypoints'][:3] = [0, 0, 0]

    path = edit(tmp_path / 'train.json', hide_snouts)
    assert len(CocoPoses(path, tmp_path / 'images', 'mouse', crop=crop)) == 4

    def repeat(content):
        content['annotations'].append(dict(content['annotations'][0], id=900))

    with pytest.raises(LabelError, match='twice'):
        CocoPoses(edit(path, repeat), tmp_path / 'images', 'mouse', crop=crop)


# 8. Pictures of more than 8 bits


@pytest.mark.parametrize('ending', ['png', 'tif'])
@pytest.mark.parametrize('white', [1023, 4095, 65535])
def test_8_bits_of_a_camera_fill_the_scale(tmp_path, ending, white):
    shades = np.linspace(0, 1, 40 * 50).reshape(40, 50)
    for number, light in enumerate((1.0, 0.5, 0.1)):
        values = (shades * light * white).astype(np.uint16)
        assert cv2.imwrite(str(tmp_path / f'{number}.{ending}'), values)
    frames = [frame for _, frame in Media(tmp_path)]
    for frame, light in zip(frames, (1.0, 0.5, 0.1)):  # a dark one is not stretched
        assert np.abs(frame[..., 0] - shades * light * 255).max() <= 1


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_8_other_numbers_in_a_tiff(tmp_path, dtype):
    values = np.linspace(0, 4095, 40 * 50).reshape(40, 50).astype(dtype)
    assert cv2.imwrite(str(tmp_path / 'a.tif'), values)
    assert np.abs(read_image(tmp_path / 'a.tif')[..., 1] - values / 4095 * 255).max() <= 1
    assert cv2.imwrite(str(tmp_path / 'a.tif'), values * -1)
    with pytest.raises(MediaError, match='a.tif: has negative'):
        read_image(tmp_path / 'a.tif')


def test_8_what_cannot_be_decided_is_an_error(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.tif'), np.full((4, 5), 1 << 20, np.int32))
    with pytest.raises(MediaError, match='a.tif: reaches 1.04858e[+]06, and white is not known'):
        read_image(tmp_path / 'a.tif')


# 9. LSPET


@quiet
@pytest.mark.parametrize('layout', [(1, 2, 0), (0, 1, 2)])
def test_9_lspet_is_known_by_its_numbers(tmp_path, layout):
    truth = write_lsp(tmp_path, 10, digits=5)
    stored = truth.j.copy()
    labelled = ~truth.occluded
    stored[..., 2] = labelled
    stored[..., :2][~labelled] = [-7, -3]
    scipy.io.savemat(tmp_path / 'joints.mat', dict(joints=stored.transpose(layout)))
    source = LSP(tmp_path)
    assert source.flag == 'visible'
    assert source.visible.sum() == labelled.sum()
    with pytest.raises(LabelError, match="joints.mat: with flag='hidden', 100%.*flag='visible'"):
        LSP(tmp_path, flag='hidden')


# 10. Small ones

HEADER = """scorer,a,a,a,a
bodyparts,snout,snout,tail,tail
coords,x,y,x,y
"""


@pytest.fixture
def csv(tmp_path):
    "A function that reads a CSV of two joints with these rows"

    def read(rows, **kwargs):
        (tmp_path / 'labels.csv').write_text(HEADER + rows)
        return read_dlc_csv(tmp_path / 'labels.csv', None, **kwargs)

    return read


def test_10_blank_rows_and_cells_without_a_number(csv):
    labels = csv('a.png,1,2,3,4\n ,,,,\nb.png,NA,<NA>,NULL,nan\n  , , , , \n')
    assert labels.names == ['a.png', 'b.png']
    assert labels.visible.tolist() == [[True, True], [False, False]]
    with pytest.raises(LabelError, match=r"row '' \(2 below the header\) has no name"):
        csv('a.png,1,2,3,4\n ,1,2,3,4\n')


def test_10_skip_that_leaves_nothing_says_why(csv, tmp_path):
    with pytest.raises(LabelError, match="no usable row of 1; first: .*'snout': x is 'x'"):
        csv('a.png,x,2,3,4\n', screen=lambda *fault: None)
    write_coco_tree(tmp_path, 2)

    def change(content):
        for annotation in content['annotations']:
            annotation['keypoints'] = [1, 2]

    path = edit(tmp_path / 'train.json', change)
    with pytest.raises(LabelError, match='none of 2 annotations is usable; first: annotation 100'):
        CocoPoses(path, tmp_path / 'images', on_error='skip')


def test_10_long_ids_ids_as_text_and_marks_as_text(tmp_path):
    truth = write_coco_tree(tmp_path, 4)

    def change(content):
        for image in content['images']:
            image['id'] = 10**18 + image['id']
        for annotation in content['annotations']:
            annotation['image_id'] = str(10**18 + annotation['image_id'])
            annotation['category_id'] = '3'
            annotation['iscrowd'] = '0'

    labels = read_coco(edit(tmp_path / 'train.json', change), 'mouse')
    assert labels.names == truth['names']
    edit(tmp_path / 'train.json', lambda content: content['annotations'][0].update(iscrowd='1'))
    assert len(read_coco(tmp_path / 'train.json', 'mouse').names) == 4


def test_10_an_annotation_of_no_category_is_not_dropped_silently(tmp_path):
    write_coco_tree(tmp_path, 2)
    path = tmp_path / 'train.json'
    edit(path, lambda content: content['annotations'][0].update(category_id=99))
    with pytest.raises(LabelError, match='annotation 100: category 99 is not listed'):
        read_coco(path, 'mouse')


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    "A video of 60 frames, and the same file with an edit list that shows 30 of them from the tenth"
    folder = tmp_path_factory.mktemp('clip')
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    whole = write_video(folder / 'whole.mp4', noise, fps=25)
    content = bytearray(whole.read_bytes())
    at = content.index(b'elst') + 12
    length, start = struct.unpack('>Ii', content[at : at + 8])
    content[at : at + 8] = struct.pack('>Ii', length // 2, round(start + 10 / 25 * 12800))
    (folder / 'edited.mp4').write_bytes(bytes(content))
    return whole, folder / 'edited.mp4'


def test_10_a_video_with_an_edit_list_is_not_damaged(clip):
    whole, edited = clip
    shown, told = warned(lambda: list(read_video(edited)))
    assert not told
    assert (np.stack(shown) == np.stack(list(read_video(whole)))[10:40]).all()
    info = video_info(edited)
    assert (info.n_frames, info.stated) == (30, 30)
    reader, told = warned(lambda: VideoReader(edited, cache_mb=0))
    for number in np.random.default_rng(0).permutation(30):
        assert (reader[int(number)] == shown[number]).all()
    assert not told
    assert Media(edited).stated == 30


def test_10_a_video_that_was_cut_off_is_damaged(clip, tmp_path):
    content = clip[0].read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(content[: int(len(content) * 0.7)])
    _, told = warned(lambda: list(read_video(tmp_path / 'cut.mp4')))
    assert 'of 60 frames decode' in str(told[0].message)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_10_the_size_of_a_turned_tiff(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / 'a.tif', exif=exif)
    assert image_size(tmp_path / 'a.tif') == read_image(tmp_path / 'a.tif').shape[:2]


def test_10_rhd_of_mmpose_says_its_order_itself(tmp_path):
    joints = [f'finger{i}' for i in range(21)]
    content = dict(
        images=[dict(id=1, file_name='training/color/00000.png', height=320, width=320)],
        annotations=[dict(id=1, image_id=1, category_id=1, keypoints=[5, 6, 2] * 21)],
        categories=[dict(id=1, name='hand', keypoints=joints)],
    )
    (tmp_path / 'rhd_train.json').write_text(json.dumps(content))
    _, told = warned(CocoPoses, tmp_path / 'rhd_train.json', images=False)
    assert "'rhd:FOLDER' reads the same file with the right names" in str(told[0].message)


# Beside the numbers


def test_an_animal_may_be_called_all(tmp_path):
    joints = np.arange(16.0).reshape(1, 2, 4, 2) + 1
    table(joints, ['a.png'], individuals=('all', 'm2')).to_csv(tmp_path / 'a.csv')
    assert len(read_dlc_csv(tmp_path / 'a.csv', 'mouse', individual='all').names) == 2


def test_a_label_file_that_does_not_exist_is_named(tmp_path):
    for spec, file in (('coco', 'missing.json'), ('dlc', 'missing.csv')):
        with pytest.raises(DataError, match=f'{file}: no such file') as caught:
            open_dataset(f'{spec}:{tmp_path / file}')
        assert 'official' not in str(caught.value)


def test_warnings_are_at_the_call(tmp_path):
    write_coco_tree(tmp_path, 2)

    def change(content):
        content['categories'][1]['keypoints'] = [*JOINTS, 'tail']
        for annotation in content['annotations']:
            annotation['keypoints'] += [0, 0, 0]

    path = edit(tmp_path / 'train.json', change)
    for read in (
        read_coco,
        read_labels,
        lambda *args: CocoPoses(args[0], tmp_path / 'images', 'mouse'),
    ):
        _, told = warned(read, path, 'mouse')
        assert "['tail']" in str(told[0].message)
        assert told[0].filename == __file__


def test_numbers_of_videos_do_not_depend_on_hashes():
    "A set of names comes in any order: so no two names may be equal for sorting"
    names = ['01', '1', '001', '2', 'a01', 'a1']
    for order in itertools.permutations(names):
        assert sorted(order, key=_natural_key) == ['001', '01', '1', '2', 'a01', 'a1']
    assert group_names(['01/a.jpg', '1/a.jpg', '001/a.jpg'])[0].tolist() == [1, 2, 0]


def test_an_open_video_at_the_end_of_the_interpreter_says_nothing(clip, monkeypatch):
    "By then the names of the module are gone"
    reader = VideoReader(clip[0])
    reader[3]
    without_names = types.FunctionType(VideoReader.__del__.__code__, dict(__builtins__=builtins))
    without_names(reader)

    def close(self):
        raise NameError("name 'os' is not defined")

    monkeypatch.setattr(VideoReader, 'close', close)
    without_names(reader)


def test_crops_of_a_reader_have_a_row_for_each_sample(tmp_path):
    write_coco_tree(tmp_path, 3)
    with pytest.raises(DataError, match='2 boxes'):
        CocoPoses(
            tmp_path / 'train.json', tmp_path / 'images', 'mouse', crop=[[0, 0, 9, 9], [1, 1, 9, 9]]
        )
