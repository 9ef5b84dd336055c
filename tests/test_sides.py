"Left and right: found by name in the public data sets of the field, invisible in mirror images where there is no partner"

import copy
import json
import random
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from geomrecon.core.errors import SkeletonError
from geomrecon.core.geometry import affine
from geomrecon.core.skeleton import (
    BODY16,
    HAND21,
    MOUSE4,
    Skeleton,
    side_pairs,
    skeleton_from_dict,
    skeleton_from_file,
    skeleton_to_dict,
)
from geomrecon.data.augment import PoseAugment, move_joints
from geomrecon.data.batch import Batch
from geomrecon.losses.pseudo import pseudo_labels
from geomrecon.core.errors import LabelError
from geomrecon.readers.joint_names import match_joints
from geomrecon.methods.uniframe import UniFrame

tables = yaml.safe_load(Path(__file__).with_name('sides.yml').read_text(encoding='utf-8'))


# Data sets of the field


def pairs_of(table, key='pairs'):
    return {frozenset(pair.split('/')) for pair in table.get(key, ())}


def joints_of(table):
    "The named joints of a table, and its numbered ones"
    numbered = table.get('numbered', dict(name='', joints=0))
    numbers = [numbered['name'].replace('#', str(i)) for i in range(numbered['joints'])]
    return table.get('joints', []) + numbers


def found_in(table):
    joints = joints_of(table)
    return {frozenset((joints[left], joints[right])) for left, right in side_pairs(joints)}


def counts(source):
    "Pairs of all data sets of one source: all that the names say, found, missed, false"
    n_pairs, missed, false = 0, [], []
    for table in tables:
        n_sets = sum(name.startswith(source) for name in table['sets'])
        pairs, found = pairs_of(table), found_in(table)
        n_pairs += n_sets * len(pairs)
        for _ in range(n_sets):
            missed += [sorted(pair) for pair in pairs - found]
            false += [sorted(pair) for pair in found - pairs]
    return n_pairs, missed, false


@pytest.mark.parametrize('table', tables, ids=lambda table: table['sets'][0])
def test_no_false_pair_in(table):
    assert found_in(table) <= pairs_of(table)


def test_no_joint_with_a_partner_is_in_doubt_or_of_one_side():
    for table in tables:
        skeleton = Skeleton('of a data set', tuple(joints_of(table)), ())
        sideless = {i for i, joint in enumerate(skeleton.joints) if joint in SIDED_ALONE}
        assert set(skeleton.one_sided) <= sideless, table['sets']
        numbered = set(range(len(table.get('joints', [])), skeleton.n_joints))
        assert set(skeleton.doubtful) - sideless == numbered, table['sets']


# Of the right pupil of a mouse, and the two of an eye whose pairs are missed
SIDED_ALONE = (
    *('pupil_top_r', 'pupil_right_r', 'pupil_bottom_r', 'pupil_left_r'),
    *('LDpupil', 'RVpupil', 'DRpupil', 'VLpupil', 'RBAK'),
)


@pytest.mark.parametrize('source', ('mmpose', 'SLEAP', 'DeepLabCut', ''))
def test_pairs_are_found_by_name_alone(source):
    n_pairs, missed, false = counts(source)
    n_found = n_pairs - len(missed)
    print(f'{source or "all"}: {n_found} of {n_pairs} pairs, missed {missed}, false {false}')
    assert n_pairs > 0
    assert n_found >= 0.95 * n_pairs
    assert false == []


def test_tables_are_whole():
    "Every pair names two joints of its table; the pairs of names that say no side are listed apart"
    for table in tables:
        for pair in pairs_of(table) | pairs_of(table, 'unsaid'):
            assert len(pair & set(table['joints'])) == 2, (table['sets'], pair)
    assert sum(len(table['sets']) for table in tables) >= 70


# Spellings


def paired(text):
    joints = text.split()
    return {f'{joints[left]}/{joints[right]}' for left, right in side_pairs(joints)}


@pytest.mark.parametrize(
    'spelling',
    (
        *('left_ear right_ear', 'leftear rightear', 'earLeft earRight', 'LEFT_EAR RIGHT_EAR'),
        *('ear_l ear_r', 'ear.L ear.R', 'l-ear r-ear', 'earl earr', 'lear rear', 'LEar REar'),
        *('Lear Rear', 'EARL EARR', 'EarL EarR', 'L R', 'left right', 'Lt_ear Rt_ear'),
        *('L_1 R_1', 'leg_L_1 leg_R_1', 'antL_tip antR_tip', 'midlegL4 midlegR4', 'L1A R1A'),
        *('FL_paw FR_paw', 'pawFL pawFR', 'fl_paw fr_paw', 'LH RH', 'paw_LH_1 paw_RH_1'),
        *('Nearknee Offknee', 'near_fore off_fore', 'oculus_sinister oculus_dexter'),
        *('hipl hipr', 'lhip rhip', 'frontpawl frontpawr', 'lfrontpaw rfrontpaw'),
        *('midleftleg midrightleg', 'left1 right1', 'oreja_izq oreja_der', '左耳 右耳'),
        *('left_ear ear_R', 'L-Ear Right_ear', 'leftArm_leftHand rightArm_rightHand'),
    ),
)
def test_pair(spelling):
    left, right = spelling.split()
    assert paired(f'nose {left} tail {right}') == {f'{left}/{right}'}
    assert paired(f'{right} {left}') == {f'{left}/{right}'}


@pytest.mark.parametrize(
    'names',
    (
        *('ear eal', 'rear leal', 'lip rip', 'ling ring', 'barrel barrer', 'lamp ramp', 'rib lib'),
        *('light right', 'wrist wlist', 'tail tair', 'nostril nostrir', 'collar collal', 'lower rower'),
        *('shoulder shouldel', 'lump rump', 'cleft cright', 'bleft bright', 'upper uppel', 'lung rung'),
        *('limb rimb', 'finger fingel', 'lateral rateral', 'crown clown', 'spine1 spine2', 'kpt1 kpt2'),
        *('legL1 legR2', 'legL1 legL2', 'left_ear left_eye', 'left_ear Left_Ear right_ear', 'FL RR'),
        *('RL RR LR', 'L_left L_right R_left R_right', 'nearest offset', 'L1 L2 R3', 'ulnar tibial'),
        *('pupil_left_r pupil_right_r paw_l paw_r eye_l eye_r',),
    ),
)
def test_no_pair(names):
    assert paired(names) <= {'paw_l/paw_r', 'eye_l/eye_r'}


def test_a_name_is_never_the_other_side_of_itself_and_order_does_not_matter():
    "Random subsets and orders of all joints of all tables: the same pairs wherever both are there"
    rng = random.Random(0)
    for table in tables:
        joints = joints_of(table)
        whole = found_in(table)
        shuffled = rng.sample(joints, len(joints))
        assert found_in(dict(table, joints=shuffled, numbered=dict(name='', joints=0))) == whole
        some = rng.sample(joints, (len(joints) + 1) // 2)
        found = found_in(dict(table, joints=some, numbered=dict(name='', joints=0)))
        assert found <= whole | pairs_of(table), table['sets']


def test_left_and_right_are_never_suggested_for_each_other():
    for wanted, there in (('earl', 'earr'), ('lhip', 'rhip'), ('Nearknee', 'Offknee')):
        with pytest.raises(LabelError) as refused:
            match_joints(['nose', there], ['nose', wanted])
        assert 'did you mean' not in str(refused.value)


PIECES = 'l r L R left right Left RIGHT LH fr near off ear paw rear lip 1 2 _ - . nose all 左'.split()


def test_any_names_give_pairs_of_opposites():
    "600 skeletons of random names: each joint in one pair, alone, in doubt or in the middle"
    rng = random.Random(3)
    for _ in range(600):
        names = {''.join(rng.choices(PIECES, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 14))}
        skeleton = Skeleton('random', tuple(sorted(names)), ())
        paired = [joint for pair in skeleton.flip_pairs for joint in pair]
        others = [*skeleton.one_sided, *skeleton.doubtful]
        assert len(set(paired + others)) == len(paired + others)
        swapped = tuple(names)
        again = Skeleton('random', swapped, ())
        pairs = {(skeleton.joints[i], skeleton.joints[j]) for i, j in skeleton.flip_pairs}
        assert {(swapped[i], swapped[j]) for i, j in again.flip_pairs} == pairs
        assert skeleton.sides_text()


def test_long_and_many_names_take_no_time():
    names = ['l' + 'forehead' * 500 + 'x', 'left' * 500, 'L' * 500, '1L' * 200, '_' * 999 + 'r']
    names += [f'left{i}_L_R_{i // 2}' for i in range(900)]
    start = time.process_time()
    Skeleton('long', tuple(names), ()).sides_text()
    assert time.process_time() - start < 5


# Joints of one side

FLY = Skeleton('fly', ('head', 'left_wing', 'eyeL', 'eyeR', 'tail'), ((0, 1), (0, 4)))
mirror = affine(torch.zeros(2), flip=torch.tensor([True, False]))


def test_one_sided_joints_are_told_from_the_names():
    assert FLY.one_sided == (1,)
    assert FLY.flip_pairs == ((2, 3),)
    for skeleton in (HAND21, BODY16, MOUSE4):
        assert skeleton.one_sided == ()
        assert skeleton.doubtful == ()
        assert sorted(skeleton.flip_index) == list(range(skeleton.n_joints))


def test_a_joint_of_one_side_is_invisible_in_mirrored_copies():
    kp = torch.rand(2, 5, 2) - 0.5
    moved, visible = move_joints(kp, torch.ones(2, 5), mirror, FLY.flip_index)
    assert visible.tolist() == [[True, False, True, True, True], [True] * 5]
    assert torch.allclose(moved[0, 2], kp[0, 3] * torch.tensor([-1, 1]))


def test_no_pseudo_label_for_a_joint_of_one_side_in_a_mirrored_view():
    heatmaps = torch.zeros(2, 5, 16, 16)
    heatmaps[:, :, 8, 6] = 1.0
    _, mask = pseudo_labels(heatmaps, mirror, FLY.flip_index, gamma=0.5)
    assert mask.tolist() == [[True, False, True, True, True], [True] * 5]


def test_no_label_from_a_mirrored_view_of_the_teacher():
    "UniFrame's teacher sees views of its own"
    method = SimpleNamespace(dls=SimpleNamespace(skeleton=FLY))
    every = torch.ones(2, 5, dtype=torch.bool)
    _, is_label, is_sure = UniFrame._known_to(method, mirror, None, every, every)
    assert is_label.tolist() == [[True, False, True, True, True], [True] * 5]
    assert is_sure.tolist() == is_label.tolist()


def augmented(skeleton, **options):
    "Sixteen images of one skeleton, augmented"
    torch.manual_seed(0)
    n_joints = skeleton.n_joints
    batch = Batch.of(
        source=torch.zeros(16, 3, 8, 8, dtype=torch.uint8),
        keypoints=torch.rand(16, n_joints, 2) * 0.5 + 0.1,
        visible=torch.ones(16, n_joints, dtype=torch.bool),
        depth=torch.rand(16, n_joints),
    )
    return PoseAugment(skeleton, rotate=0.0, scale=(1, 1), shift=0.0, **options)(batch)


@pytest.mark.filterwarnings('ignore:skeleton')
def test_mirrored_copies_of_a_training_batch():
    batch = augmented(FLY, flip=0.5)
    is_mirrored = batch.keypoints[:, 0, 0] < 0
    assert 0 < is_mirrored.sum() < 16
    assert torch.equal(batch.visible[:, 1], ~is_mirrored)
    assert batch.visible[:, [0, 2, 3, 4]].all()
    assert batch.depth.isfinite().all()


def test_declared_skeletons_are_as_before():
    "A file that says so keeps a joint of one side in mirror images"
    kept = Skeleton('fly', FLY.joints, FLY.bones, flip_pairs=FLY.flip_pairs, one_sided=())
    assert kept.flip_index == [0, 1, 3, 2, 4]
    assert augmented(kept, flip=0.5).visible.all()


def warned(skeleton, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        augmented(skeleton, **options)
    return [str(warning.message) for warning in caught]


def test_a_warning_where_sides_have_no_partner():
    (said,) = warned(FLY, flip=0.5)
    assert 'left_wing' in said and 'flip=0' in said
    (said,) = warned(Skeleton('bee', ('head', 'wingL'), ()), flip=0.5)
    assert 'the side of wingL is in doubt' in said
    assert warned(FLY, flip=0.0) == []
    assert warned(FLY, flip=0.5, train=False) == []
    assert warned(MOUSE4, flip=0.5) == []


def test_the_pairs_are_shown():
    text = FLY.sides_text()
    assert 'left/right: 1 pair (eyeL/eyeR); middle: 2' in text
    assert 'one side only: left_wing (not used in mirrored images)' in text
    faces = Skeleton('face', tuple(f'kpt-{i}' for i in range(68)), ())
    assert 'side in doubt: kpt-0, kpt-1' in faces.sides_text()
    assert '56 more' in faces.sides_text()
    many = Skeleton('many', tuple(f'{s}{i}' for i in range(50) for s in 'LR'), ())
    assert len(many.sides_text()) < 200
    assert '50 pairs' in many.sides_text()


# Skeleton files

FISH = dict(
    name='fish',
    joints=['nose', 'left_fin', 'right_fin', 'tail'],
    bones=[['nose', 'left_fin'], ['nose', 'right_fin'], ['nose', 'tail']],
    flip_pairs=[['left_fin', 'right_fin']],
    one_sided=[],
    groups=dict(ends=['nose', 'tail']),
    root='nose',
    ref_bone=['nose', 'tail'],
    limits=dict(tail=dict(length=[0.5, 2.0], flexion=[-30, 30], axis=[0, 0, 1])),
    rig=[
        dict(name='nose', parent=None, offset=[0, 0, 0], radius=3, part='skin'),
        dict(name='left_fin', parent='nose', offset=[-5, 20, 0], radius=[3, 1]),
        dict(name='right_fin', parent='nose', offset=[5, 20, 0]),
        dict(name='tail', parent='nose', offset=[0, 55, 0], limits=[[0, 0], [0, 0], [-35, 35]]),
    ],
)


def test_a_skeleton_file_is_read_and_written_again():
    fish = skeleton_from_dict(FISH)
    assert fish.flip_pairs == ((1, 2),)
    assert skeleton_from_dict(skeleton_to_dict(fish)) == fish
    for skeleton in (HAND21, BODY16, MOUSE4, FLY):
        assert skeleton_from_dict(json.loads(json.dumps(skeleton_to_dict(skeleton)))) == skeleton


def test_what_is_told_from_names_is_not_written():
    "Keys of caches and checkpoints hold the written form: it is as it was"
    keys = 'name joints bones flip_pairs groups root rig ref_bone limits'.split()
    for skeleton in (HAND21, BODY16, MOUSE4, FLY):
        assert list(skeleton_to_dict(skeleton)) == keys


def places(value, path=()):
    "Every place in a structure"
    yield path
    inner = {}
    if isinstance(value, dict):
        inner = value
    if isinstance(value, list):
        inner = dict(enumerate(value))
    for key, item in inner.items():
        yield from places(item, (*path, key))


def changed(path, value):
    "The fish with another value at one place"
    d = copy.deepcopy(FISH)
    at = d
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return d


STRANGE = (
    *(None, True, 3, -1, 1e300, float('nan'), float('inf'), '', ' ', 'no such joint', b'bytes'),
    *([], [[]], ['nose'], ['nose', 'nose'], [1, 2], [None], {}, {'nose': 1}, {1: 2}, {None: None}),
    *([['nose', 'tail', 'nose']], [['nose']], 'nose', [[[['nose']]]], ['tail'] * 3, (1, 2, 3)),
)


def test_strange_values_anywhere_are_typed_errors_or_a_skeleton():
    "Some 1500 mutations; what is accepted can be used: flipped, shown, written and read again"
    n_refused = n_accepted = 0
    for path in list(places(FISH))[1:]:
        for value in STRANGE:
            try:
                skeleton = skeleton_from_dict(changed(path, value))
            except SkeletonError as error:
                n_refused += 1
                assert len(str(error)) < 600
                continue
            n_accepted += 1
            assert len(skeleton.flip_index) == skeleton.n_joints
            assert skeleton.sides_text()
            assert skeleton_from_dict(skeleton_to_dict(skeleton)) == skeleton
    assert n_refused > 1000
    assert n_accepted < 0.2 * (n_refused + n_accepted)


def test_bytes_of_a_file_changed_anywhere(tmp_path):
    "600 files with bytes exchanged, cut or doubled: a typed error that names the file, or a skeleton"
    rng = random.Random(1)
    whole = yaml.safe_dump(FISH).encode()
    path = tmp_path / 'fish.yaml'
    for _ in range(600):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randint(1, 40)]
            elif kind == 2:
                data[at:at] = data[at : at + rng.randint(1, 40)]
            else:
                data[at:at] = rng.choice((b'[', b'{', b'\0', b'&a ', b'*a', b'!!', b': ', b'- ', b'<<: '))
        path.write_bytes(bytes(data))
        try:
            skeleton_from_file(path)
        except SkeletonError as error:
            assert 'fish.yaml' in str(error)


BOMB = 'a: &a [x,x,x,x,x,x,x,x,x]\n' + ''.join(
    f'{chr(98 + i)}: &{chr(98 + i)} [{",".join(["*" + chr(97 + i)] * 9)}]\n' for i in range(9)
)


@pytest.mark.parametrize(
    'text, said',
    (
        ("name: !!python/object/apply:os.system ['touch {folder}/ran']", 'constructor'),
        ('name: !!python/object/new:os.path.join [a]', 'constructor'),
        ('name: !!python/name:os.system', 'constructor'),
        ('[' * 3000, 'fish.yaml'),
        ('joints: *a', 'undefined alias'),
        ('&a [*a]', 'holds a list'),
        (BOMB + 'name: *j\njoints: *j\nbones: *j\n', 'unknown keys'),
        ('name: fish\njoints: &a [[*a]]\nbones: []', 'joint 1 of joints'),
        ('name: fish\nname: fish', 'stands twice'),
        ('{"name": "a", "joints": ["a"], "joints": ["b"], "bones": []}', 'stands twice'),
        ('name: 2001-99-99', 'cannot be read'),
        ('? {a: b}\n: c', 'cannot be read'),
        ('name: fish\njoints: [a, no]\nbones: []', 'joint 2 of joints: bool False'),
        ('name: fish\njoints: [a, a]\nbones: []', 'repeat'),
        ('name: fish\njoints: [a, b]\nbones: [[a, b]]\nflip_pairs: [[a, b], [b, a]]', 'two flip pairs'),
        ('name: fish\njoints: [a, b]\nbones: [[a, b]]\none_sided: [c]', 'unknown joint'),
        ('', 'holds a NoneType'),
        ('x' * 1_100_000, 'larger than'),
    ),
    ids=lambda text: text[:24].replace('\n', ' ') if isinstance(text, str) else None,
)
def test_hostile_file(tmp_path, text, said):
    path = tmp_path / 'fish.yaml'
    path.write_text(text.replace('{folder}', str(tmp_path)), encoding='utf-8')
    with pytest.raises(SkeletonError) as refused:
        skeleton_from_file(path)
    assert 'fish.yaml' in str(refused.value)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 600
    assert [p.name for p in tmp_path.iterdir()] == ['fish.yaml']


def test_a_folder_and_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path, tmp_path / 'none.yaml'):
        with pytest.raises(SkeletonError, match='no such file'):
            skeleton_from_file(path)
