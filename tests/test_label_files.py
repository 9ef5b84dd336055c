"""Label files that pandas and json wrote, read by geomrecon, and the reverse; joints by name."""

import os
import pickle
import shutil
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_own import plain, table, three, write_coco_tree, write_dlc_tree, write_lightning_tree
from geomrecon.core.errors import GeomReconError, LabelError, SkeletonError
from geomrecon.core.skeleton import MOUSE4
from geomrecon.readers.joint_names import match_joints, named_skeleton
from geomrecon.readers.label_coco import read_coco, read_labels, write_coco
from geomrecon.readers.label_csv import read_dlc_csv, read_lightning_csv, write_dlc_csv
from geomrecon.readers.label_h5 import read_dlc_h5, write_dlc_h5
from geomrecon.readers.labelled_images import CocoPoses
from geomrecon.readers.remapped import Remapped


def close(got, expected, atol=1e-4):
    "Equal to within `atol`, and NaN at the same places"
    return np.allclose(got, expected, atol=atol, equal_nan=True)


# CSV


def test_dlc_csv_as_pandas_writes_it(tmp_path):
    truth = write_dlc_tree(tmp_path)
    labels = read_dlc_csv(tmp_path / 'CollectedData_lab.csv', 'mouse')
    assert close(labels.keypoints, truth['keypoints'])
    assert labels.names == plain(truth['names'])
    assert not labels.visible[1, 2]
    assert labels.visible.sum() == 23


def test_lightning_pose(tmp_path):
    truth = write_lightning_tree(tmp_path)
    for name in ('CollectedData.csv', 'predictions.csv'):
        labels = read_lightning_csv(tmp_path / name, 'mouse')
        assert np.allclose(labels.keypoints, truth['keypoints'], atol=1e-4)


def test_lightning_predictions_of_one_part(tmp_path):
    truth = write_lightning_tree(tmp_path)
    labels = read_lightning_csv(tmp_path / 'predictions.csv', 'mouse', part='test')
    assert labels.names == [f'labeled-data/clip/{truth["names"][-1]}']
    assert np.allclose(labels.likelihood, 0.9)


def test_lightning_predictions_after_a_pass_through_pandas(tmp_path):
    truth = write_lightning_tree(tmp_path)
    frame = pd.read_csv(tmp_path / 'predictions.csv', header=[0, 1, 2], index_col=0)
    frame.to_csv(tmp_path / 'again.csv')
    labels = read_lightning_csv(tmp_path / 'again.csv', 'mouse')
    assert np.allclose(labels.keypoints, truth['keypoints'], atol=1e-4)


def test_written_csv_is_read_by_pandas(tmp_path):
    truth = write_lightning_tree(tmp_path)
    names = plain(truth['names'])
    path = write_dlc_csv(tmp_path / 'out.csv', truth['keypoints'], None, 'mouse', index=names)
    frame = pd.read_csv(path, header=[0, 1, 2], index_col=0)
    assert frame.shape == (6, 8)
    assert np.allclose(frame.to_numpy().reshape(6, 4, 2), truth['keypoints'], atol=1e-3)


WITHOUT_SCORER = """\
scorer,Unnamed: 1_level_0,Unnamed: 2_level_0,Unnamed: 3_level_0,Unnamed: 4_level_0
bodyparts,black_mouse_nose,black_mouse_nose,black_mouse_right_ear,black_mouse_right_ear
coords,x,y,x,y
labeled-data/012609_A29/img00010035.png,259.0,401.0,252.0,373.0
labeled-data/012609_A29/img00010327.png,592.0,250.00000000000003,,
"""


def test_lightning_file_without_scorer(tmp_path):
    "As in Lightning Pose's own tests: header cells that pandas filled, long paths, trailing zeros"
    (tmp_path / 'labels.csv').write_text(WITHOUT_SCORER)
    labels = read_lightning_csv(tmp_path / 'labels.csv', None)
    assert labels.skeleton.joints == ('black_mouse_nose', 'black_mouse_right_ear')
    assert labels.visible.tolist() == [[True, True], [True, False]]
    assert labels.keypoints[1, 0].tolist() == [592, 250]


# H5


@pytest.mark.parametrize(
    'layout,index,animals,with_likelihood',
    [
        ('fixed', 'three', None, False),
        ('fixed', 'plain', None, False),
        ('fixed', 'three', ('m1', 'm2'), False),
        ('table', 'plain', None, True),
        ('table', None, None, True),
        ('table', None, ('m1', 'm2', 'm3'), True),
    ],
)
def test_h5_layouts(tmp_path, layout, index, animals, with_likelihood):
    rng = np.random.default_rng(0)
    n_rows = 7
    n_animals = len(animals) if animals else 1
    keypoints = rng.uniform(0, 300, (n_rows, n_animals, 4, 2))
    keypoints[2, 0, 1] = np.nan
    likelihood = rng.uniform(0, 1, (n_rows, n_animals, 4))
    images = [f'img{i}.png' for i in range(n_rows)]
    rows = {'three': three(images), 'plain': plain(images), None: None}[index]
    names = plain(images) if index else [str(i) for i in range(n_rows)]

    shape = slice(None) if animals else (slice(None), 0)
    its_likelihood = likelihood[shape] if with_likelihood else None
    frame = table(keypoints[shape], rows, its_likelihood, animals)
    path = tmp_path / 'x.h5'
    frame.to_hdf(path, key='df_with_missing', mode='w', format=layout)

    for i, animal in enumerate(animals or [None]):
        labels = read_dlc_h5(path, MOUSE4, individual=animal)
        assert close(labels.keypoints, keypoints[:, i], atol=1e-3)
        assert labels.names == names
        if with_likelihood:
            assert np.allclose(labels.likelihood, likelihood[:, i], atol=1e-6)
        else:
            assert labels.likelihood is None
    if animals:
        everyone = read_dlc_h5(path, MOUSE4, individual='all')
        assert len(everyone.names) == n_rows * n_animals


@pytest.fixture
def five_rows():
    "Keypoints, one of them NaN, likelihoods and image names"
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0, 300, (5, 4, 2))
    keypoints[0, 3] = np.nan
    likelihood = rng.uniform(0, 1, (5, 4))
    return keypoints, likelihood, [f'img{i}.png' for i in range(5)]


def test_written_h5_labels_are_read_by_pandas(tmp_path, five_rows):
    keypoints, _, images = five_rows
    path = write_dlc_h5(tmp_path / 'a.h5', keypoints, None, 'mouse', index=plain(images))
    frame = pd.read_hdf(path)
    assert frame.index.nlevels == 3
    assert frame.equals(table(keypoints, three(images), scorer='geomrecon'))
    assert close(read_dlc_h5(path, 'mouse').keypoints, keypoints)


def test_written_h5_predictions_are_read_by_pandas(tmp_path, five_rows):
    keypoints, likelihood, _ = five_rows
    path = write_dlc_h5(tmp_path / 'b.h5', keypoints, likelihood, 'mouse')
    frame = pd.read_hdf(path)
    assert frame.equals(table(keypoints, None, likelihood, scorer='geomrecon'))
    assert close(read_dlc_h5(path, 'mouse').keypoints, keypoints)


def test_written_h5_of_one_animal_among_several(tmp_path, five_rows):
    keypoints, _, images = five_rows
    names = plain(images)
    path = write_dlc_h5(tmp_path / 'c.h5', keypoints, None, 'mouse', individual='m1', index=names)
    frame = pd.read_hdf(path)
    assert list(frame.columns.names) == ['scorer', 'individuals', 'bodyparts', 'coords']
    assert close(read_dlc_h5(path, 'mouse').keypoints, keypoints)


def test_many_joints_in_h5(tmp_path):
    "Long lists of names are stored in another way"
    joints = [f'joint_number_{i}' for i in range(300)]
    keypoints = np.random.default_rng(0).uniform(0, 99, (4, 300, 2))
    frame = table(keypoints, None, np.ones((4, 300)), joints=joints)
    frame.to_hdf(tmp_path / 'x.h5', key='df_with_missing', mode='w', format='table')
    labels = read_dlc_h5(tmp_path / 'x.h5', None)
    assert labels.skeleton.joints == tuple(joints)
    assert np.allclose(labels.keypoints, keypoints, atol=1e-4)


class Evil:
    "Runs a command when it is unpickled"

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def places_for_a_payload(path):
    "(member, attribute) of an H5 file; the attribute None stands for the array itself"
    places = []

    def note(name, member):
        if '_i_table' in name:
            return
        places.extend((name, attribute) for attribute in member.attrs)
        if isinstance(member, h5py.Dataset):
            places.append((name, None))

    with h5py.File(path) as file:
        file.visititems(note)
    return places


def replace_array(file, name, payload):
    "Put an array of one pickled object where an array was"
    attributes = dict(file[name].attrs)
    attributes['CLASS'] = np.bytes_('VLARRAY')
    attributes['PSEUDOATOM'] = np.bytes_('object')
    attributes['kind'] = np.bytes_('object')
    del file[name]
    array = file.create_dataset(name, (1,), dtype=h5py.vlen_dtype(np.uint8))
    array[0] = np.frombuffer(payload, np.uint8)
    for attribute, value in attributes.items():
        array.attrs[attribute] = value


@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_h5_runs_nothing(tmp_path, protocol):
    write_dlc_tree(tmp_path / 'd', 3)
    labels_file = tmp_path / 'd' / 'CollectedData_lab.h5'
    predictions_file = tmp_path / 't.h5'
    write_dlc_h5(predictions_file, np.ones((3, 4, 2)), np.ones((3, 4)), 'mouse')
    trace = tmp_path / 'trace'
    payload = pickle.dumps(Evil(f'touch {trace}'), protocol)
    as_attribute = np.void(payload) if protocol else np.bytes_(payload)

    n_tried = 0
    for base in (labels_file, predictions_file):
        for member, attribute in places_for_a_payload(base):
            evil_file = tmp_path / 'evil.h5'
            shutil.copy(base, evil_file)
            with h5py.File(evil_file, 'r+') as file:
                if attribute is None:
                    replace_array(file, member, payload)
                else:
                    file[member].attrs[attribute] = as_attribute
            n_tried += 1
            try:
                read_dlc_h5(evil_file, 'mouse')
            except GeomReconError:
                pass
            assert not trace.exists(), (member, attribute)
    assert n_tried > 100


# COCO


def test_coco_several_annotations(tmp_path):
    truth = write_coco_tree(tmp_path, state=True)
    labels = read_coco(tmp_path / 'train.json', 'mouse')
    labelled = np.where(truth['state'][..., None] > 0, truth['keypoints'], np.nan)
    assert labels.names == truth['names']
    assert len(labels.names) == 7
    assert close(labels.keypoints, labelled, atol=1e-3)
    assert np.allclose(labels.boxes, truth['boxes'], atol=0.01)
    assert (labels.state == truth['state']).all()
    assert (labels.size == [96, 128]).all()


def test_coco_skeleton_of_the_file(tmp_path):
    write_coco_tree(tmp_path, state=True)
    skeleton = read_coco(tmp_path / 'train.json', None).skeleton
    assert skeleton.joints == MOUSE4.joints
    assert skeleton.bones == MOUSE4.bones
    assert skeleton.flip_pairs == MOUSE4.flip_pairs


def test_coco_round_trip(tmp_path):
    write_coco_tree(tmp_path, state=True)
    labels = read_coco(tmp_path / 'train.json', 'mouse')
    path = write_coco(
        tmp_path / 'b.json',
        labels.names,
        labels.keypoints,
        skeleton='mouse',
        size=labels.size,
        boxes=labels.boxes,
        state=labels.state,
    )
    again = read_coco(path, 'mouse')
    assert np.allclose(again.keypoints, labels.keypoints, equal_nan=True)
    assert (again.state == labels.state).all()


# Joints by name


@pytest.fixture
def renamed_csv(tmp_path):
    "A CSV whose joints are spelled in other ways, and its truth"
    truth = write_dlc_tree(tmp_path, h5=False)
    path = tmp_path / 'CollectedData_lab.csv'
    text = path.read_text()
    for ours, theirs in (('leftear', 'Ear_L'), ('rightear', 'right-ear'), ('snout', 'nose')):
        text = text.replace(ours, theirs)
    path.write_text(text)
    return path, truth


def test_unknown_names_are_an_error_with_a_suggestion(renamed_csv):
    path, _ = renamed_csv
    unknown = r"unknown \['nose', 'Ear_L', 'right-ear'\]"
    suggestion = r"did you mean names=\{.*'Ear_L': 'leftear'"
    with pytest.raises(LabelError, match=f'{unknown}.*{suggestion}'):
        read_labels(path, 'mouse')
    with pytest.raises(LabelError, match="lacks the joints \\['snout'\\]"):
        read_labels(path, 'mouse', rename='auto')


def test_names_that_are_given_or_missing(renamed_csv):
    path, truth = renamed_csv
    labels = read_labels(path, 'mouse', rename='auto', names={'nose': 'snout'})
    assert close(labels.keypoints, truth['keypoints'])
    without_snout = read_labels(path, 'mouse', rename='auto', missing='invisible')
    assert not without_snout.visible[:, 0].any()


@pytest.mark.parametrize(
    'in_the_file,expected',
    [
        (['L_ear', 'R_ear'], [0, 1]),
        (['earRight', 'earLeft'], [1, 0]),
        (['right_EAR', 'left_EAR'], [1, 0]),
    ],
)
def test_left_and_right_are_never_exchanged(in_the_file, expected):
    assert match_joints(in_the_file, ['leftear', 'rightear'], rename='auto') == expected


def test_left_and_right_are_never_suggested_for_each_other():
    with pytest.raises(LabelError):
        match_joints(['ear_L', 'l_ear', 'R_ear'], ['leftear', 'rightear'], rename='auto')
    with pytest.raises(LabelError) as caught:
        match_joints(['left_paw'], ['right_paw'], rename='auto')
    assert 'did you mean' not in str(caught.value)


# Another skeleton


OTHER = named_skeleton('other', ['tail_base', 'ear_right', 'snout', 'ear_left', 'paw'], ((0, 2),))


@pytest.fixture
def mice(tmp_path):
    write_coco_tree(tmp_path, state=True)
    return CocoPoses(tmp_path / 'train.json', tmp_path / 'images', size=48)


def test_remapped_refuses_what_does_not_match(mice):
    with pytest.raises(SkeletonError, match="'leftear': 'ear_left'"):
        Remapped(mice, OTHER)
    with pytest.raises(SkeletonError, match="lacks the joints \\['paw'\\]"):
        Remapped(mice, OTHER, rename='auto')


def test_remapped(mice):
    remapped = Remapped(mice, OTHER, rename='auto', missing='invisible')
    original = mice.batch(range(7))
    batch = remapped.batch(range(7))
    order = [3, 2, 0, 1]
    assert len(remapped) == 7
    assert torch.equal(batch['keypoints'][:, :4], original['keypoints'][:, order])
    assert torch.equal(batch['visible'][:, :4], original['visible'][:, order])
    # the joint that is missing is never visible
    assert not batch['visible'][:, 4].any()
    assert batch['keypoints'].isfinite().all()
    assert batch['joints3d'].shape == (7, 5, 3)
    assert torch.equal(batch['image'], original['image'])
    # attributes, subsets and frames
    assert (remapped.keypoints[:, :4] == mice.keypoints[:, order]).all()
    assert (remapped.subset([4, 1]).batch([1])['index'] == 1).all()
    assert remapped.frames().images([0]).shape == (1, 3, 48, 48)


def test_remapped_can_be_pickled(mice):
    remapped = Remapped(mice, OTHER, rename='auto', missing='invisible')
    again = pickle.loads(pickle.dumps(remapped))
    assert torch.equal(again.batch([2])['keypoints'], remapped.batch([2])['keypoints'])
