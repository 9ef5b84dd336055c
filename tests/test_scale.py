"""Many and long videos: nothing is decoded at the start, crops are those of the other stores, and what was measured stays.

What a header promises and the file does not hold is put right, or told with the names of file and frame.
"""

import json
import tracemalloc
import av
import numpy as np
import pytest
import torch
from fixtures_own import WalkingClip, write_walking_clip
from geomrecon.core.errors import DataError, MediaError
from geomrecon.data import frames as frames_module
from geomrecon.data import packets, video, video_reader
from geomrecon.data.frames import VideoFrames
from geomrecon.data.video import write_video
from torch.utils.data import DataLoader

N_CLIPS = 60
N_FRAMES = 12


@pytest.fixture(scope='module')
def walk(tmp_path_factory) -> WalkingClip:
    return write_walking_clip(tmp_path_factory.mktemp('walk'))


@pytest.fixture(scope='module')
def clips(walk, tmp_path_factory):
    "A folder of sixty small clips"
    folder = tmp_path_factory.mktemp('many') / 'clips'
    folder.mkdir()
    for number in range(N_CLIPS):
        start = number % 40
        small = [frame[::2, ::2] for frame in walk.frames[start : start + N_FRAMES]]
        write_video(folder / f'clip{number}.mp4', small, fps=25)
    return folder


@pytest.fixture
def decoded(monkeypatch):
    "Counts the frames that are decoded"
    counts = dict(frames=0, opened=0)
    decode, open_file = video.decode_frames, video.open_video

    def counting(*args):
        for frame in decode(*args):
            counts['frames'] += 1
            yield frame

    def opening(path):
        counts['opened'] += 1
        return open_file(path)

    for module in (video, video_reader, packets):
        monkeypatch.setattr(module, 'decode_frames', counting)
        monkeypatch.setattr(module, 'open_video', opening)
    return counts


def opened(path, **options):
    return VideoFrames(path, **dict(dict(size=32, progress=False, store='stream'), **options))


def test_a_start_decodes_one_frame_of_each_clip(clips, decoded, tmp_path):
    frames = opened(clips, crop='motion', cache=tmp_path / 'cache')
    assert len(frames) == N_CLIPS * N_FRAMES
    assert decoded['frames'] == N_CLIPS
    frames.images([5])
    # background, boxes and crops of the one clip that was touched
    assert decoded['frames'] == N_CLIPS + 3 * N_FRAMES


def test_a_second_start_opens_nothing(clips, decoded, tmp_path):
    cache = tmp_path / 'cache'
    opened(clips, cache=cache).images([5, 500])
    decoded.update(frames=0, opened=0)
    again = opened(clips, cache=cache)
    assert len(again) == N_CLIPS * N_FRAMES
    again.images([5, 500])
    assert decoded == dict(frames=0, opened=0)


@pytest.mark.parametrize('crop', ['whole', 'motion', (4, 6, 40, 40)])
@pytest.mark.parametrize('with_cache', [True, False])
def test_crops_and_boxes_are_those_of_the_other_stores(clips, tmp_path, crop, with_cache):
    some = sorted(clips.iterdir())[:3]
    cache = tmp_path / 'cache' if with_cache else None
    streamed = opened(some, crop=crop, cache=cache, step=2)
    in_memory = opened(some, crop=crop, store='memory', step=2)
    order = np.random.default_rng(0).permutation(len(in_memory))
    assert torch.equal(streamed.images(order), in_memory.images(order))
    for name in ('boxes', 'found', 'frame', 'frame_size', 'video_id'):
        assert np.array_equal(getattr(streamed, name), getattr(in_memory, name)), name
    assert torch.equal(streamed.matrix, in_memory.matrix)
    assert streamed.sides[:] == in_memory.sides


def test_an_interrupted_start_goes_on(clips, tmp_path, monkeypatch):
    measured = []
    measure = packets.measure_video

    def interrupted(path):
        if len(measured) == 25:
            raise KeyboardInterrupt
        measured.append(path)
        return measure(path)

    monkeypatch.setattr(packets, 'measure_video', interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(clips, cache=tmp_path)
    del measured[10:]
    monkeypatch.setattr(
        packets, 'measure_video', lambda path: (measured.append(path), measure(path))[1]
    )
    opened(clips, cache=tmp_path)
    assert len(measured) == 10 + N_CLIPS - 25


def test_a_changed_clip_is_measured_and_cut_anew(walk, tmp_path):
    clip = write_video(tmp_path / 'clip.mp4', walk.frames[:10])
    before = opened(clip, cache=tmp_path, crop='whole').images(slice(None))
    write_video(clip, walk.frames[20:35])
    after = opened(clip, cache=tmp_path, crop='whole').images(slice(None))
    assert len(before) == 10
    assert torch.equal(after, opened(clip, store='memory', crop='whole').images(slice(None)))
    assert len(after) == 15


def test_a_broken_file_is_told_at_the_start(clips, walk, tmp_path):
    whole = write_video(tmp_path / 'whole.mp4', walk.frames[:10])
    broken = tmp_path / 'broken.mp4'
    content = whole.read_bytes()
    for n_bytes in (0, 100, content.index(b'mdat') + 8):
        broken.write_bytes(content[:n_bytes])
        with pytest.raises(MediaError, match='broken.mp4'):
            opened([whole, broken], crop='whole')
    with pytest.warns(UserWarning, match='broken.mp4'):
        left = opened([whole, broken], crop='whole', on_error='skip')
    assert len(left) == 10
    assert left.report == {'unreadable video': 1}


def test_boxes_that_do_not_fit_are_told_at_the_start(clips):
    clip = clips / 'clip3.mp4'
    with pytest.raises(DataError, match=f'2 boxes for {N_FRAMES} frames'):
        opened(clip, crop=np.full((2, 4), 20.0))


def test_a_clip_in_which_nothing_moves_is_named(walk, tmp_path):
    still = write_video(tmp_path / 'still.mp4', [walk.frames[0]] * 6)
    frames = opened(still)
    with pytest.raises(DataError, match='still.mp4.*no motion'):
        frames.images([0])


@pytest.fixture
def long_from_20(monkeypatch):
    "Videos of more than twenty frames are not cut whole"
    monkeypatch.setattr(frames_module, '_LONG', 20)


def claim(cache, n_frames):
    "Let the known length of a video be another one"
    path = cache / 'sizes.json'
    known = json.loads(path.read_text())
    for entry in known.values():
        entry[2] = n_frames
    path.write_text(json.dumps(known))


@pytest.mark.parametrize('n_there', [12, 30])
def test_a_header_that_promises_too_much_is_put_right(walk, tmp_path, long_from_20, n_there):
    "A short and a long clip with fewer frames than were stated"
    clip = write_video(tmp_path / 'clip.mp4', walk.frames[:n_there])
    opened(clip, cache=tmp_path, crop='whole')
    claim(tmp_path, n_there + 5)
    frames = opened(clip, cache=tmp_path, crop='whole')
    assert len(frames) == n_there + 5
    with pytest.warns(UserWarning, match='clip.mp4: 5 of'):
        crops = frames.images(slice(None))
    right = opened(clip, store='memory', crop='whole').images(slice(None))
    assert torch.equal(crops[:n_there], right)
    for crop in crops[n_there:]:
        assert torch.equal(crop, right[-1])
    assert frames.frame[-6:].tolist() == [n_there - 1] * 6
    assert int(frames.unread) == 5


def test_single_frames_of_a_long_video(walk, tmp_path, long_from_20, decoded):
    whole = opened(walk.video, crop='whole')
    assert decoded['frames'] == 1
    right = opened(walk.video, store='memory', crop='whole').images(slice(None))
    for order in (np.arange(60), np.random.default_rng(0).permutation(60)):
        whole._recent.clear()
        assert torch.equal(whole.images(order), right[order])
    boxes = np.array([[20.0 + k, 10, 60, 60] for k in range(60)])
    given = [opened(walk.video, crop=boxes, store=store) for store in ('stream', 'memory')]
    assert torch.equal(*(frames.images([7, 50, 20]) for frames in given))


def test_moving_boxes_of_a_long_video(walk, tmp_path, long_from_20):
    "A sample stands for all frames: nearly the same boxes, and always the same"
    frames = opened(walk.video, cache=tmp_path)
    crops = frames.images([40, 3, 22])
    every = opened(walk.video, store='memory')
    assert frames.sides[0] == pytest.approx(every.sides[0], rel=0.05)
    middles = [boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (frames.boxes, every.boxes)]
    assert np.abs(middles[0] - middles[1]).max() < 1
    assert frames.found.all()
    again = opened(walk.video, cache=tmp_path)
    assert torch.equal(again.images([22]), crops[2:])
    assert torch.equal(again.images([3, 40]), crops[[1, 0]])
    keypoints = torch.zeros(1, 1, 2)
    middle = again.to_frame(keypoints, [3])[0, 0].numpy() + 0.5
    assert middle == pytest.approx(frames.boxes[3, :2] + frames.boxes[3, 2:] / 2, abs=1e-3)


def write_damaged(path, walk):
    "A video with a key frame in five whose middle does not decode"
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=25, options=dict(g='5', bf='0'))
        stream.height, stream.width = 120, 160
        stream.pix_fmt = 'yuv420p'
        for frame in walk.frames:
            pixels = np.ascontiguousarray(frame[:120, :160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format='rgb24')))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    begin = content.index(b'mdat') + len(content) // 3
    content[begin : begin + len(content) // 5] = bytes(len(content) // 5)
    path.write_bytes(content)


def test_a_frame_that_does_not_decode_is_named(walk, tmp_path, long_from_20):
    path = tmp_path / 'hurt.mp4'
    write_damaged(path, walk)
    strict = opened(path, crop='whole', on_error='raise')
    strict.images([0, 1])
    with pytest.raises(MediaError, match='hurt.mp4.*frame [0-9]+ cannot be read'):
        strict.images(slice(None))
    lenient = opened(path, crop='whole')
    with pytest.warns(UserWarning, match='hurt.mp4: frame [0-9]+ cannot be read') as told:
        crops = lenient.images(slice(None))
    assert len(told) == 1
    assert int(lenient.unread) > 0
    assert torch.equal(crops[:2], strict.images([0, 1]))


def test_a_video_that_changes_is_told(walk, tmp_path, long_from_20):
    path = write_video(tmp_path / 'clip.mp4', walk.frames)
    frames = opened(path, crop='whole')
    frames.images([3])
    frames.media[0].reader.close()
    write_video(path, walk.frames[:40])
    with pytest.raises(MediaError, match='changed'):
        frames.images([50])


def test_memory_does_not_grow_with_the_video(walk, tmp_path, long_from_20):
    long = write_video(tmp_path / 'long.mp4', walk.frames * 2)
    frames = opened(long, recent_mb=0.01)
    one_frame = walk.decoded[0].nbytes
    frames.images([0])
    tracemalloc.start()
    try:
        for start in range(0, 120, 30):
            frames.images(range(start, start + 30))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * one_frame


def test_images_are_read_when_they_are_asked_for(walk, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(frames_module, '_LONG', 5)
    right = opened(walk.images, crop='whole', store='memory').images(slice(None))
    read_image = frames_module.read_image
    monkeypatch.setattr(
        frames_module, 'read_image', lambda path: (read.append(path), read_image(path))[1]
    )
    frames = opened(walk.images, crop='whole')
    assert not read
    assert torch.equal(frames.images([7, 2]), right[[7, 2]])
    assert len(read) == 2


def test_workers_read_the_same(clips, tmp_path):
    frames = opened(clips, crop='whole', cache=tmp_path)
    idxs = np.arange(0, len(frames), 97)

    class Batches:
        def __len__(self):
            return len(idxs)

        def __getitem__(self, i):
            return frames.images([idxs[i]])

    workers = dict(num_workers=2, multiprocessing_context='fork')
    from_workers = torch.cat(list(DataLoader(Batches(), batch_size=None, **workers)))
    assert torch.equal(from_workers, frames.images(idxs))


def test_auto_streams_what_fits_nowhere(clips, tmp_path):
    none_fits = dict(memory_gb=1e-6, cache_gb=1e-6)
    assert opened(clips, store='auto', cache=tmp_path, **none_fits).store == 'stream'
    assert opened(clips, store='auto', crop='whole', max_frames=1).store == 'memory'
