"The annotator's convention: what was planted in rendered figures is found by a few labels, and moves joints alone."

import json
import pickle

import numpy as np
import pytest
import torch
from geomrecon.core.errors import ConfigError, DataError, SkeletonError
from geomrecon.core.skeleton import BODY16, HAND21, MOUSE4, Skeleton
from geomrecon.data.mixed import MixedSource
from geomrecon.data.pairs import pose_dls
from geomrecon.puppet.convention import (
    Convention,
    ConventionSource,
    convention_from_rows,
    estimate_convention,
    frame_bones,
    left_out_errors,
    show_convention,
)
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.pool import render_pool

SIZE = 96
#: Ahead and right of each mouse joint, lengths of the back; ears mirror each other
PLANTED = [[-0.05, 0.0], [-0.08, -0.06], [-0.08, 0.06], [-0.1, 0.03]]


def convention_of(offsets, skeleton, poses):
    "A convention that moves joints by these offsets"
    offsets = torch.as_tensor(offsets, dtype=torch.float64)
    n_joints = skeleton.n_joints
    return Convention(
        skeleton,
        frame_bones(skeleton, poses),
        offset=offsets,
        spread=torch.zeros(n_joints, dtype=torch.float64),
        number=torch.full((n_joints,), 99),
    )


def poses_of(skeleton, n=400):
    "Rendered poses, pixels"
    keypoints = PuppetImages(skeleton, n, SIZE, 'randomised').labels(range(n))['keypoints']
    return (keypoints.double() + 1) * SIZE / 2


def noise_like(poses, pixels, seed):
    "Errors of a net"
    generator = torch.Generator().manual_seed(seed)
    return pixels * torch.randn(poses.shape, generator=generator, dtype=torch.float64)


@pytest.fixture(scope='module')
def mice():
    return poses_of(MOUSE4)


@pytest.fixture(scope='module')
def planted(mice):
    return convention_of(PLANTED, MOUSE4, mice)


@pytest.fixture(scope='module')
def pool():
    return render_pool(PuppetImages(MOUSE4, 1000, SIZE, 'randomised'), 40, bar=False)


def draws(mice, planted, n=5, pixels=1.0, n_draws=60, damage=None, **options):
    "Conventions from a few noisy frames each"
    found = []
    for draw in range(n_draws):
        rows = np.random.default_rng(draw).choice(len(mice), n, replace=False)
        predicted = mice[rows] + noise_like(mice[rows], pixels, draw)
        labelled = planted.apply(mice[rows])
        if damage is not None:
            damage(predicted, labelled)
        found.append(estimate_convention(predicted, labelled, MOUSE4, **options))
    return found


def errors_in_standard_errors(found, planted):
    "(draws,K,2) errors of the offsets, in their standard errors"
    errors = [each.offset - planted.offset for each in found]
    return torch.stack([error / each.error[:, None] for error, each in zip(errors, found)])


def test_planted_offsets_are_found_within_their_errors(mice, planted):
    found = draws(mice, planted)
    ratio = errors_in_standard_errors(found, planted)
    # by definition two thirds are within one; spreads from five frames are rough, hence the room
    within = (ratio.abs() < 1).double().mean()
    assert 0.55 < within < 0.8
    assert (ratio.abs() < 3).double().mean() > 0.94
    offset = torch.stack([each.offset for each in found])
    assert (offset.median(0).values - planted.offset).abs().max() < 0.01


def test_more_labels_less_error(mice, planted):
    def error(n):
        found = draws(mice, planted, n=n, n_draws=30)
        return torch.stack([each.offset - planted.offset for each in found]).abs().mean()

    assert error(40) < 0.6 * error(10) < 0.6 * 0.8 * error(4)


def swap_ears(predicted, labelled):
    labelled[1] = labelled[1, [0, 2, 1, 3]]


def flip_prediction(predicted, labelled):
    predicted[1] = predicted[1, [3, 1, 2, 0]]


def lose_labels(predicted, labelled):
    labelled[0, 0] = torch.nan
    labelled[1, 3] = torch.nan
    labelled[1, 1] = torch.inf


def lie_on_a_point(predicted, labelled):
    predicted[1, 0] = predicted[1, 3]


@pytest.mark.parametrize('damage', [swap_ears, flip_prediction, lose_labels, lie_on_a_point])
def test_one_bad_frame_of_five_does_no_harm(mice, planted, damage):
    found = draws(mice, planted, damage=damage)
    offset = torch.stack([each.offset for each in found])
    assert offset.isfinite().all()
    assert (offset.median(0).values - planted.offset).abs().max() < 0.025
    undone = (offset - planted.offset).norm(dim=-1).mean(0)
    # a mean would be off by a fifth of the distance between the ears, or of twice the back
    assert (undone < 0.45 * planted.offset.norm(dim=-1)).all()


def test_left_and_right_are_estimated_together(mice, planted):
    both = draws(mice, planted)
    apart = draws(mice, planted, pool=False)

    def error(found):
        return (
            torch.stack([each.offset - planted.offset for each in found])[:, 1:3]
            .norm(dim=-1)
            .mean()
        )

    assert error(both) < 0.85 * error(apart)
    for each in both:
        torch.testing.assert_close(each.offset[1], each.offset[2] * torch.tensor([1.0, -1.0]))
    assert both[0].number.tolist() == [5, 10, 10, 5]
    assert apart[0].number.tolist() == [5, 5, 5, 5]


def test_a_mirror_image_has_the_mirrored_convention(mice, planted):
    def mirrored(poses):
        return poses[:, [0, 2, 1, 3]] * torch.tensor([-1.0, 1.0])

    predicted = mice[:9] + noise_like(mice[:9], 1.0, 0)
    labelled = planted.apply(mice[:9])
    for pool in (True, False):
        seen = estimate_convention(predicted, labelled, MOUSE4, pool=pool)
        other = estimate_convention(mirrored(predicted), mirrored(labelled), MOUSE4, pool=pool)
        swapped = seen.offset[[0, 2, 1, 3]] * torch.tensor([1.0, -1.0])
        torch.testing.assert_close(other.offset, swapped, atol=1e-9, rtol=0)
        # moved and mirrored is mirrored and moved
        torch.testing.assert_close(other.apply(mirrored(mice)), mirrored(seen.apply(mice)))


@pytest.mark.parametrize('skeleton', [HAND21, BODY16, MOUSE4], ids=lambda each: each.name)
def test_a_planted_convention_is_found_and_undone_on_every_skeleton(skeleton):
    poses = poses_of(skeleton, 60)
    generator = torch.Generator().manual_seed(3)
    offsets = 0.1 * torch.randn(skeleton.n_joints, 2, generator=generator, dtype=torch.float64)
    planted = convention_of(offsets, skeleton, poses)
    moved = planted.apply(poses)
    torch.testing.assert_close(planted.undo(moved), poses, atol=1e-8, rtol=0)
    found = estimate_convention(poses, moved, skeleton, pool=False)
    torch.testing.assert_close(found.offset, offsets, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.apply(poses), moved, atol=1e-4, rtol=0)


def test_size_place_and_direction_do_not_matter(mice, planted):
    turn = torch.tensor([[0.0, 2.5], [-2.5, 0.0]], dtype=torch.float64)
    moved = planted.apply(mice) @ turn - 7
    torch.testing.assert_close(planted.apply(mice @ turn - 7), moved)


def test_joints_that_are_not_moved_keep_their_bits(mice):
    offsets = torch.tensor(PLANTED, dtype=torch.float64)
    offsets[0] = 0
    some = convention_of(offsets, MOUSE4, mice)
    poses = mice.float()
    poses[3, 1] = torch.nan
    poses[4, 3] = torch.nan  # the start of every bone
    poses[5, 0] = poses[5, 3]  # without length
    for change in (some.apply, some.undo):
        moved = change(poses)
        assert moved.dtype == torch.float32
        assert torch.equal(moved[:, 0].nan_to_num(9), poses[:, 0].nan_to_num(9))
        assert torch.equal(moved[4].nan_to_num(9), poses[4].nan_to_num(9))
        assert moved[3, 1].isnan().all() and moved[3, 2].isfinite().all()
    assert torch.equal(some.apply(poses)[5], poses[5])
    torch.testing.assert_close(
        some.undo(some.apply(poses)), poses, equal_nan=True, atol=1e-3, rtol=0
    )


def test_fewer_than_three_labels_tell_nothing(mice, planted):
    labelled = planted.apply(mice[:6])
    labelled[2:, 0] = torch.nan
    labelled[1:, [1, 2]] = torch.nan
    found = estimate_convention(mice[:6], labelled, MOUSE4)
    assert found.number.tolist() == [2, 2, 2, 6]
    assert found.told.tolist() == [False, False, False, True]
    assert torch.equal(found.apply(mice)[:, :3], mice[:, :3])
    said = {row['joint']: row['said'] for row in found.rows()}
    assert said['leftear'] == 'not told: 2 of 3 labels'
    assert said['tailbase'] == 'moved'
    assert found.rows()[0]['ahead'] is None


def test_without_a_convention_nearly_nothing_moves(mice):
    nothing = convention_of([[0.0, 0.0]] * 4, MOUSE4, mice)
    moved = torch.stack([each.moves for each in draws(mice, nothing, n=8)])
    assert moved.double().mean() < 0.3


def test_left_out_labels_say_whether_it_helps(mice, planted):
    predicted = mice[:10] + noise_like(mice[:10], 1.0, 0)
    before, after = left_out_errors(predicted, planted.apply(mice[:10]), MOUSE4)
    assert after.mean() < 0.7 * before.mean()
    one, same = left_out_errors(predicted[:1], planted.apply(mice[:1]), MOUSE4)
    assert torch.equal(one, same)


def test_a_moved_source_keeps_everything_else(pool, planted):
    moved = ConventionSource(pool, planted)
    assert len(moved) == len(pool)
    assert moved.skeleton is pool.skeleton
    idxs = np.arange(len(pool))
    old, new = pool.batch(idxs), moved.batch(idxs)
    assert set(old) == set(new)
    for name in ('image', 'joints3d', 'intrinsics'):
        assert torch.equal(old[name], new[name])
    assert torch.equal(new['keypoints'], planted.apply(old['keypoints']))
    went_out = (new['keypoints'].abs() > 1).any(-1)
    assert torch.equal(
        new['visible'], old['visible'] & ~(went_out & (old['keypoints'].abs() <= 1).all(-1))
    )
    # the source itself is not changed
    assert torch.equal(pool.batch(idxs)['keypoints'], old['keypoints'])


def test_a_joint_moved_out_of_the_picture_is_not_seen(pool, mice):
    far = convention_of([[3.0, 0.0], [0, 0], [0, 0], [0, 0]], MOUSE4, mice)
    batch = ConventionSource(pool, far).batch(np.arange(40))
    assert not batch['visible'][:, 0].any()
    assert torch.equal(batch['visible'][:, 1:], pool.visible[:, 1:])


def test_loaders_train_on_moved_joints(pool, planted):
    moved = ConventionSource(pool, planted)
    still = dict(rotate=0.0, scale=(1.0, 1.0), shift=0.0, colour=0.0)
    options = dict(steps=2, bs=4, seed=0, device='cpu', depth=True, aug=still)
    plain = pose_dls(pool, pool, **options).train.one_batch()
    batch = pose_dls(moved, moved, **options).train.one_batch()
    assert torch.equal(batch.source, plain.source)
    assert torch.equal(batch.depth.nan_to_num(9), plain.depth.nan_to_num(9))
    torch.testing.assert_close(batch.keypoints, planted.apply(plain.keypoints))
    mixed = MixedSource([moved, pool], [0.5, 0.5])
    assert pose_dls(mixed, moved, **options).train.one_batch().keypoints.shape == (4, 4, 2)


def test_a_moved_source_goes_to_worker_processes_and_has_its_own_pool(pool, planted, tmp_path):
    moved = ConventionSource(PuppetImages(MOUSE4, 100, 48, 'randomised'), planted)
    again = pickle.loads(pickle.dumps(moved))
    assert torch.equal(again.batch([3])['keypoints'], moved.batch([3])['keypoints'])
    assert repr(again) == repr(moved)
    path = tmp_path / 'pool.pt'
    render_pool(moved.source, 8, path, bar=False)
    in_pool = render_pool(moved, 8, path, bar=False)
    assert torch.equal(in_pool.keypoints, moved.batch(range(8))['keypoints'])


def test_errors_say_what_is_wrong(mice, planted, pool):
    with pytest.raises(DataError, match=r"predicted: shape .*skeleton 'mouse'"):
        estimate_convention(mice[:, :3], mice, MOUSE4)
    with pytest.raises(DataError, match='5 frames predicted, 4 labelled'):
        estimate_convention(mice[:5], mice[:4], MOUSE4)
    with pytest.raises(ConfigError, match='fewest'):
        estimate_convention(mice, mice, MOUSE4, fewest=0)
    with pytest.raises(ConfigError, match='sure'):
        estimate_convention(mice, mice, MOUSE4, sure=-1)
    with pytest.raises(DataError, match='keypoints'):
        planted.apply(mice[..., :1])
    with pytest.raises(SkeletonError, match='as the source'):
        ConventionSource(PuppetImages(HAND21, 5), planted)
    dots = Skeleton('dots', MOUSE4.joints, ())
    lone = estimate_convention(mice[:5], mice[:5], dots)
    assert lone.bones == (None,) * 4 and not lone.told.any()
    with pytest.raises(SkeletonError, match='no bones'):
        pool_of_dots = render_pool(PuppetImages(MOUSE4, 10, 48), 5, bar=False)
        pool_of_dots.skeleton = dots
        show_convention(lone, pool_of_dots)


def test_a_convention_comes_back_from_its_rows(mice, planted):
    labelled = planted.apply(mice[:8])
    labelled[2:, 0] = torch.nan
    found = estimate_convention(mice[:8] + noise_like(mice[:8], 1.0, 0), labelled, MOUSE4)
    rows = json.loads(json.dumps(found.rows()))
    again = convention_from_rows(rows, MOUSE4)
    assert again.bones == found.bones and torch.equal(again.number, found.number)
    assert torch.equal(again.told, found.told) and torch.equal(again.moves, found.moves)
    torch.testing.assert_close(again.apply(mice), found.apply(mice), atol=1e-9, rtol=0)
    with pytest.raises(DataError, match='wrist'):
        convention_from_rows(rows, HAND21)
