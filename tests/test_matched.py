"The video's own stage: what is measured is what was drawn, what is rendered is what was measured, and what cannot be used is refused."

import cv2
import numpy as np
import pytest
import torch
from fixtures_stage import plain_floor, write_walk
from geomrecon.core.errors import ConfigError, DataError, SkeletonError
from geomrecon.core.skeleton import Skeleton
from geomrecon.data.frames import VideoFrames
from geomrecon.data.images import crop_frame, read_image
from geomrecon.data.media import Media
from geomrecon.data.video import write_video
from geomrecon.puppet.matched import (
    MatchedImages,
    Spread,
    can_be_matched,
    changed_share,
    check_matched,
    glance,
    matched_source,
)
from geomrecon.puppet.pool import render_pool
from geomrecon.puppet.stage import body_at, learn_stage, moment_of

#: Nothing strays from what was measured
EXACT = Spread(
    place=0.0,
    inside=0.0,
    turn=0.0,
    size=(1.0, 1.0),
    tone=(1.0, 1.0),
    lift=0.0,
    light=(1.0, 1.0),
    blur=(1.0, 1.0),
    noise=(1.0, 1.0),
)


def read(walk, size=96, **options):
    return VideoFrames(walk.folder, size=size, crop='motion', progress=False, **options)


@pytest.fixture(scope='module')
def walk(tmp_path_factory):
    return write_walk(tmp_path_factory.mktemp('walk'))


@pytest.fixture(scope='module')
def frames(walk):
    return read(walk)


@pytest.fixture(scope='module')
def stage(frames):
    return learn_stage(frames, 'mouse')


@pytest.fixture(scope='module')
def textured():
    "A floor on which a camera's movement shows"
    fine = np.random.default_rng(1).integers(60, 240, (60, 80, 1), dtype=np.uint8)
    return np.repeat(
        cv2.resize(fine, (320, 240), interpolation=cv2.INTER_NEAREST)[..., None], 3, -1
    )


def empty_crops(images, idxs):
    "What the background shows where some rendered pictures are, without spread"
    stage = images.stage
    boxes = stage.boxes[images.moments(idxs)]
    return [crop_frame(stage.background, box, images.size, stage.pad) for box in boxes]


def test_rendered_pictures_measure_as_the_video_does(stage):
    images = MatchedImages(stage, 'mouse', 1000, 96, spread=EXACT)
    idxs = np.arange(80)
    pictures = images.batch(idxs)['image'].permute(0, 2, 3, 1).contiguous().numpy()
    moments = []
    for number, (picture, empty) in enumerate(zip(pictures, empty_crops(images, idxs))):
        moments.append(moment_of(number, picture, empty))
    found = [moment for moment in moments if moment is not None]
    assert len(found) > 72, 'the figures are seen'
    of = images.moments([moment.row for moment in found])
    length = np.array([moment.body.length for moment in found]) / 96
    width = np.array([moment.body.width for moment in found]) / 96
    extent = np.sqrt(length * width) / np.sqrt(stage.length * stage.width)[of]
    assert 0.93 < np.median(extent) < 1.07, 'as large as the animal'
    ratio = np.median(width / length) / np.median(stage.width / stage.length)
    assert 0.88 < ratio < 1.12, 'as wide for their length as the animal'
    axis = np.cos(2 * (np.array([moment.body.angle for moment in found]) - stage.angle[of]))
    assert np.median(axis) > 0.95, 'turned as the animal'
    middle = (np.array([moment.body.middle for moment in found]) + 0.5) / 96
    assert np.median(np.abs(middle - stage.middle[of])) < 0.02, 'where the animal was'
    tone = np.median([np.median(moment.tones, 0) for moment in found], axis=0)
    assert np.abs(tone - np.median(stage.tone, 0)).max() < 10, 'in its tones'
    blur = np.nanmedian([moment.blur for moment in found]) / 96
    assert 0.6 < blur / stage.blur[1] < 1.5, 'as soft'
    noise = np.nanmedian([moment.noise for moment in found])
    assert 0.7 < noise / stage.noise[1] < 1.4, 'as noisy'


def test_heads_point_where_the_animal_walks(stage):
    images = MatchedImages(stage, 'mouse', 1000, 96, spread=EXACT)
    idxs = np.arange(100)
    joints = images.labels(idxs)['keypoints']
    ahead = (joints[:, 0] - joints[:, 3]).numpy()  # from the tail's base to the snout
    angle = stage.angle[images.moments(idxs)]
    forwards = ahead[:, 0] * np.cos(angle) + ahead[:, 1] * np.sin(angle)
    assert stage.known.all()
    assert (forwards > 0).all()


def test_the_place_is_the_video_s_own(stage):
    exact = MatchedImages(stage, 'mouse', 100, 96, spread=EXACT)
    pictures = exact.batch(range(20))['image'].permute(0, 2, 3, 1).numpy().astype(int)
    for picture, empty in zip(pictures, empty_crops(exact, np.arange(20))):
        rim = np.ones((96, 96), bool)
        rim[6:-6, 6:-6] = False
        assert np.abs(picture - empty)[rim].mean() < 8, 'away from the figure the empty place'


def test_a_picture_is_the_same_alone_and_in_any_batch(stage):
    images = MatchedImages(stage, 'mouse', 1000, 64, seed=3)
    many = images.batch(range(40, 81))
    few = images.batch([80, 999, 57])
    for name, values in many.items():
        assert torch.equal(few[name][[0, 2]], values[[40, 17]]), name
        assert torch.equal(images[80][name], values[40]), name
    other = MatchedImages(stage, 'mouse', 1000, 64, seed=4)
    assert not torch.equal(other[80]['image'], many['image'][40])
    with pytest.raises(IndexError):
        images.batch([1000])


def test_another_size_is_the_same_scene(stage):
    small = MatchedImages(stage, 'mouse', 100, 48, spread=EXACT).batch(range(12))
    large = MatchedImages(stage, 'mouse', 100, 96, spread=EXACT).batch(range(12))
    assert (small['keypoints'] - large['keypoints']).abs().max() < 0.01
    halved = torch.nn.functional.avg_pool2d(large['image'].float(), 2)
    assert (halved - small['image'].float()).abs().mean() < 6


def test_a_pool_is_of_one_stage(stage, frames, tmp_path):
    images = MatchedImages(stage, 'mouse', 1000, 48)
    pool = render_pool(images, 20, tmp_path / 'pool.pt', bar=False)
    assert torch.equal(pool.images[3], images[3]['image'])
    other = MatchedImages(learn_stage(frames, 'mouse', n=30), 'mouse', 1000, 48)
    again = render_pool(other, 20, tmp_path / 'pool.pt', bar=False)
    assert not torch.equal(again.images, pool.images), 'the pool of another stage is not used'


def test_a_grey_video_gives_grey_pictures(tmp_path):
    walk = write_walk(tmp_path, n=30, tone=(52, 52, 52), grey=True)
    stage = learn_stage(read(walk), 'mouse')
    assert stage.grey
    pictures = MatchedImages(stage, 'mouse', 100, 48).batch(range(16))['image'].int()
    assert (pictures.amax(1) - pictures.amin(1)).max() <= 1


def test_a_pale_animal_on_a_dark_floor(tmp_path):
    floor = plain_floor((240, 320), level=60)
    walk = write_walk(tmp_path, n=30, tone=(215, 205, 190), floor=floor)
    stage = learn_stage(read(walk), 'mouse')
    assert np.abs(np.median(stage.tone, 0) - walk.tone).max() < 10
    pictures = MatchedImages(stage, 'mouse', 100, 96, spread=EXACT)
    batch = pictures.batch(range(16))
    assert batch['image'].float().amax((1, 2, 3)).median() > 180, 'the figures are pale'


def test_every_rig_finds_its_place(stage):
    for skeleton in ('hand', 'body'):
        batch = MatchedImages(stage, skeleton, 100, 64).batch(range(12))
        assert batch['keypoints'].isfinite().all()
        assert batch['inside'].float().mean() > 0.6
        if skeleton == 'body':
            head, pelvis = batch['keypoints'][:, 9, 1], batch['keypoints'][:, 6, 1]
            assert (head < pelvis).float().mean() > 0.8, 'people stand upright'


def test_two_videos_have_a_stage_each(tmp_path, walk):
    other = write_walk(tmp_path / 'other', n=30, tone=(150, 40, 30), seed=5)
    both = VideoFrames([walk.folder, other.folder], 96, 'motion', progress=False)
    tones = [np.median(learn_stage(both, 'mouse', video=video).tone, 0) for video in (0, 1)]
    assert np.abs(tones[0] - walk.tone).max() < 10
    assert np.abs(tones[1] - other.tone).max() < 10
    with pytest.raises(DataError, match='number 2 of 2'):
        learn_stage(both, 'mouse', video=2)


def test_a_camera_that_moves_is_refused(tmp_path, textured):
    shaken = write_walk(tmp_path, n=16, floor=textured, jump=6)
    with pytest.raises(DataError, match='camera'):
        learn_stage(read(shaken), 'mouse')
    still = write_walk(tmp_path / 'still', n=16, floor=textured)
    learn_stage(read(still), 'mouse')


def test_a_pool_of_several_stages_is_rendered_once(walk, tmp_path):
    other = write_walk(tmp_path / 'other', n=30, tone=(200, 120, 60), seed=5)
    both = VideoFrames([walk.folder, other.folder], 96, 'motion', progress=False)
    path = tmp_path / 'pool.pt'
    first = render_pool(matched_source(both, 'mouse', 1000), 16, path, bar=False)
    written = path.stat().st_mtime_ns
    again = render_pool(matched_source(both, 'mouse', 1000), 16, path, bar=False)
    assert path.stat().st_mtime_ns == written
    assert torch.equal(first.images, again.images)


def as_video(walk, path):
    "The frames of a walk as a video with a single key frame"
    return write_video(path, [read_image(file) for file in sorted(walk.folder.glob('*.png'))])


def test_a_camera_that_moves_is_known_before_anything_is_read(tmp_path, textured):
    shaken = write_walk(tmp_path / 'shaken', n=40, floor=textured, jump=6)
    still = write_walk(tmp_path / 'still', n=40, floor=textured)
    kinds = dict(images=lambda walk, name: walk.folder, video=lambda walk, name: tmp_path / name)
    as_video(shaken, tmp_path / 'shaken.mp4')
    as_video(still, tmp_path / 'still.mp4')
    for path_of in kinds.values():
        moving = Media(path_of(shaken, 'shaken.mp4'))
        standing = Media(path_of(still, 'still.mp4'))
        check_matched([standing], 'mouse')
        # one of several that moves is named
        with pytest.raises(DataError, match=f'{moving.path.name}.*camera moves'):
            check_matched([standing, moving], 'mouse')
        assert can_be_matched([standing], 'mouse')
        assert not can_be_matched([standing, moving], 'mouse')


def test_a_glance_at_a_long_video_jumps_through_all_of_it(tmp_path):
    grey = [np.full((48, 64, 3), level, np.uint8) for level in np.linspace(0, 250, 900)]
    path = write_video(tmp_path / 'long.mp4', grey)
    levels = [float(image.mean()) for image in glance(Media(path))]
    assert 5 <= len(levels) <= 48
    assert max(levels) - min(levels) > 60
    assert all(image.shape == (48, 64, 3) for image in glance(Media(path)))


def test_what_speaks_against_a_stage_is_said(walk):
    media = [Media(walk.folder)]
    assert changed_share(glance(media[0]), walk.folder) < 0.1
    for crop in ('whole', 'boxes.csv', [[0, 0, 9, 9]]):
        with pytest.raises(ConfigError, match="crop='motion'"):
            check_matched(media, 'mouse', crop)
    dots = Skeleton('dots', ('a',), ())
    with pytest.raises(SkeletonError, match='rig'):
        check_matched(media, dots)
    assert not can_be_matched(media, dots)


def test_a_video_in_which_nothing_moves_is_refused(tmp_path):
    empty = write_walk(tmp_path, n=12, length=0.5, width=0.5, shadow=0.0, noise=1.0)
    with pytest.raises(DataError, match='mov'):
        learn_stage(read(empty), 'mouse')


def test_an_animal_that_stays_in_its_place_is_refused(tmp_path):
    turning = write_walk(tmp_path, n=20, stay=True)
    with pytest.raises(DataError, match='stays where it is'):
        learn_stage(read(turning, background=turning.floor), 'mouse')


def test_an_animal_that_fills_the_picture_is_refused(tmp_path):
    large = write_walk(tmp_path, n=30, shape=(120, 160), length=90, width=40)
    frames = read(large, background=large.floor)
    with pytest.raises(DataError, match='takes'):
        learn_stage(frames, 'mouse')


def test_crops_of_whole_pictures_and_skeletons_without_rig_are_refused(walk, frames):
    whole = VideoFrames(walk.folder, 96, 'whole', progress=False)
    with pytest.raises(DataError, match="crop='motion'"):
        learn_stage(whole, 'mouse')
    with pytest.raises(SkeletonError, match='no rig'):
        learn_stage(frames, Skeleton('dots', ('a', 'b'), ((0, 1),)))


def test_the_real_mouse(openfield):
    frames = VideoFrames(openfield / 'm3v1.mp4', 96, 'motion', max_frames=300, progress=False)
    stage = learn_stage(frames, 'mouse', n=100)
    assert stage.grey
    assert stage.known.mean() > 0.9
    assert np.median(stage.tone) < 50, 'a black mouse'
    assert 0.1 < np.median(stage.shadow) < 0.4
    images = MatchedImages(stage, 'mouse', 100, 96)
    batch = images.batch(range(32))
    real = frames.images(range(0, 300, 10)).float()
    rendered = batch['image'].float()
    assert abs(real.mean() - rendered.mean()) < 15
    assert abs(real.std() - rendered.std()) < 15
    assert batch['inside'].float().mean() > 0.95
