"""Frame sources of videos and folders: stores, caches, processes, memory, bad options."""

import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
import numpy as np
import pytest
import torch
from fixtures_own import clip_frames, write_clips, write_images
from geomrecon.core.errors import ConfigError, DataError, MediaError
from geomrecon.data.frames import VideoFrames
from geomrecon.data.media import list_media
from geomrecon.data.video_reader import VideoReader
from geomrecon.data.video import read_video, write_video

quiet = pytest.mark.filterwarnings('ignore')
EVERYTHING = slice(None)


def small(paths, **kwargs):
    "A source of crops of 24 pixels"
    return VideoFrames(paths, 24, progress=False, **kwargs)


def size_on_disk(folder, pattern='*'):
    return sum(file.stat().st_size for file in folder.glob(pattern))


def fork(function, *args):
    "Run a function in a forked process; its exit code"
    process = multiprocessing.get_context('fork').Process(target=function, args=args)
    process.start()
    process.join()
    return process.exitcode


# Folders


def test_media_are_listed_in_natural_order(tmp_path):
    write_clips(tmp_path / 'videos')
    write_images(tmp_path / 'stills' / 'b10')
    write_images(tmp_path / 'stills' / 'b9')
    names = [path.name for path in list_media(tmp_path / 'videos')]
    assert names == ['clip2.mp4', 'clip10.mp4']
    assert [path.name for path in list_media(tmp_path / 'stills')] == ['b9', 'b10']


def test_folders_of_videos_and_of_images(tmp_path):
    videos = write_clips(tmp_path / 'videos')
    stills = tmp_path / 'stills'
    write_images(stills / 'b10')
    write_images(stills / 'b9')
    frames = VideoFrames(videos, 32, progress=False)
    assert len(frames) == 48
    assert (np.bincount(frames.video_id) == 24).all()
    assert len(VideoFrames(stills, 32, 'whole', progress=False)) == 12
    both = VideoFrames([videos, stills], 32, ['motion', 'whole'], progress=False)
    assert len(both.paths) == 4
    assert len(both) == 60


def test_folder_of_videos_and_folders_is_refused(tmp_path):
    videos = write_clips(tmp_path / 'videos')
    stills = tmp_path / 'stills'
    write_images(stills / 'b10')
    write_images(stills / 'b9')
    shutil.copy(videos / 'clip2.mp4', stills / 'x.mp4')
    with pytest.raises(MediaError, match='1 videos and 2 folders'):
        VideoFrames(stills, 32, 'whole', progress=False)


def test_folder_that_holds_itself(tmp_path):
    loop = tmp_path / 'loop'
    loop.mkdir()
    (loop / 'again').symlink_to(loop)
    with pytest.raises(MediaError, match='no image files'):
        list_media(loop)


# Stores


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(crop='whole', step=3),
        dict(crop=[5, 5, 40, 40], max_frames=7),
        dict(side=30, fill=0.5, pad='zeros'),
    ],
)
def test_stores_agree(tmp_path, options):
    videos = write_clips(tmp_path / 'v')
    in_memory = small(videos, store='memory', **options)
    on_disk = small(videos, store='disk', cache=tmp_path / 'c', **options)
    decoded = small(videos, store='none', **options)
    idxs = np.random.default_rng(0).integers(0, len(in_memory), 90)
    for other in (on_disk, decoded):
        assert torch.equal(other.images(idxs), in_memory.images(idxs))
        assert (other.boxes == in_memory.boxes).all()
        assert (other.frame == in_memory.frame).all()
        assert (other.found == in_memory.found).all()


MEMORY_USED = """
import sys
import numpy as np
from geomrecon.data.frames import VideoFrames


def memory_mb():
    for line in open('/proc/self/status'):
        if line.startswith('VmRSS'):
            return int(line.split()[1]) / 1e3


video, cache = sys.argv[1:]
first = VideoFrames(video, 128, 'whole', max_frames=20, store='memory', progress=False)
first.images(range(20))
for store in ('disk', 'none', 'memory'):
    before = memory_mb()
    frames = VideoFrames(
        video,
        128,
        'whole',
        store=store,
        cache=cache if store == 'disk' else None,
        recent_mb=4,
        progress=False,
    )
    for start in range(0, len(frames), 100):
        frames.images(np.arange(start, min(start + 100, len(frames))))
    print(store, len(frames), memory_mb() - before)
"""


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_memory_does_not_grow(tmp_path):
    frames = clip_frames(50)[0]
    video = tmp_path / 'long.mp4'
    write_video(video, (frames[i % 50] for i in range(1200)), crf=30)
    done = subprocess.run(
        [sys.executable, '-c', MEMORY_USED, video, tmp_path / 'c'],
        capture_output=True,
        text=True,
        env=dict(os.environ, OMP_NUM_THREADS='1'),
    )
    assert done.returncode == 0, done.stderr
    used = {}
    for line in done.stdout.splitlines():
        store, n_frames, megabytes = line.split()
        assert n_frames == '1200'
        used[store] = float(megabytes)
    assert used['memory'] > 50, used  # 59 MB of crops
    assert used['disk'] < 25, used
    assert used['none'] < 25, used


# Processes


def collect_garbage():
    signal.alarm(10)
    gc.collect()
    os._exit(0)


def read_a_frame(path):
    frames = read_video(path)
    next(frames)
    return frames


def seek_a_frame(path):
    reader = VideoReader(path)
    reader[3]
    return reader


def crop_a_frame(path):
    frames = small(path, crop='whole', store='none')
    frames.images([3])
    return frames


@pytest.mark.parametrize('open_and_read', [read_a_frame, seek_a_frame, crop_a_frame])
def test_forked_process_collects_what_the_parent_left(tmp_path, open_and_read):
    "Decoders in reference cycles, freed in a worker"
    video = write_clips(tmp_path, 20, ['a.mp4']) / 'a.mp4'
    gc.disable()
    try:
        cycle = [open_and_read(video)]
        cycle.append(cycle)
        del cycle
        assert fork(collect_garbage) == 0
        gc.collect()
    finally:
        gc.enable()


def die_after_thirty_frames(video, cache):
    cut = VideoFrames._cut

    def cut_and_die(self, *args, **kwargs):
        for n_done, crops in enumerate(cut(self, *args, **kwargs)):
            if n_done == 30:
                os.kill(os.getpid(), signal.SIGKILL)
            yield crops

    VideoFrames._cut = cut_and_die
    small(video, store='disk', cache=cache)


def test_killed_and_gone_on_with(tmp_path, monkeypatch):
    video = write_clips(tmp_path / 'v', 60, ['a.mp4']) / 'a.mp4'
    cache = tmp_path / 'c'
    expected = small(video).images(EVERYTHING)
    assert fork(die_after_thirty_frames, video, cache) == -signal.SIGKILL
    parts = list(cache.glob('*.part'))
    assert len(parts) == 1
    assert not list(cache.glob('crops-*.bin'))

    # the next process begins where the killed one ended
    starts = []
    cut = VideoFrames._cut

    def note_start(self, media, boxes, found, start=0, count=0):
        starts.append(start)
        return cut(self, media, boxes, found, start, count)

    monkeypatch.setattr(VideoFrames, '_cut', note_start)
    frames = small(video, store='disk', cache=cache)
    assert torch.equal(frames.images(EVERYTHING), expected)
    assert starts[0] > 0
    assert not list(cache.glob('*.part'))

    # a file that ends anywhere is gone on with or made anew
    whole = parts[0].with_suffix('.bin').read_bytes()
    for n_bytes in (0, 1, 999, len(whole) // 3, len(whole) - 1):
        for file in cache.iterdir():
            file.unlink()
        parts[0].write_bytes(whole[:n_bytes])
        frames = small(video, store='disk', cache=cache)
        assert torch.equal(frames.images(EVERYTHING), expected)


def crops_of(videos, cache, store):
    return small(videos, store=store, cache=cache).images(EVERYTHING).numpy()


def test_processes_share_a_cache(tmp_path):
    videos = write_clips(tmp_path / 'v', 40, ['a.mp4', 'b.mp4'])
    expected = small(videos).images(EVERYTHING).numpy()
    stores = ('disk', 'memory', 'disk', 'none')
    with multiprocessing.get_context('fork').Pool(3) as pool:
        results = pool.starmap(crops_of, [(videos, tmp_path / 'c', store) for store in stores])
    for crops in results:
        assert (crops == expected).all()
    assert not list((tmp_path / 'c').glob('*.part'))


# Caches


def test_cache_is_bounded(tmp_path):
    video = write_clips(tmp_path / 'v', 40, ['a.mp4']) / 'a.mp4'
    cache = tmp_path / 'c'
    small(video, store='disk', cache=cache)
    room = 2.5 * size_on_disk(cache)
    for k in range(4):
        fill = 0.3 + 0.1 * k
        small(video, store='disk', cache=cache, cache_gb=room / 1e9, fill=fill)
        assert size_on_disk(cache) <= room


def test_cache_may_go(tmp_path):
    video = write_clips(tmp_path / 'v', 40, ['a.mp4']) / 'a.mp4'
    frames = small(video, store='disk', cache=tmp_path / 'c')
    expected = frames.images(EVERYTHING)
    shutil.rmtree(tmp_path / 'c')
    # still open
    assert torch.equal(frames.images(EVERYTHING), expected)
    # decoded anew
    again = pickle.loads(pickle.dumps(frames))
    assert torch.equal(again.images(EVERYTHING), expected)


def test_cache_without_room_is_no_error(tmp_path):
    video = write_clips(tmp_path / 'v', 40, ['a.mp4']) / 'a.mp4'
    small(video, cache=tmp_path / 'c', cache_gb=1e-6)
    assert size_on_disk(tmp_path / 'c', 'crops*') == 0


def damage_cache_file(file, rng):
    "Flip a bit, cut, overwrite the beginning, or remove; the number that says which"
    raw = bytearray(file.read_bytes())
    how = rng.integers(4)
    if how == 0:
        raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    elif how == 1:
        raw = raw[: rng.integers(len(raw))]
    elif how == 2:
        raw[:50] = b'x' * 50
    if how == 3:
        file.unlink()
    else:
        file.write_bytes(bytes(raw))
    return how


@quiet
def test_damaged_cache(tmp_path):
    video = write_clips(tmp_path / 'v', 20, ['a.mp4']) / 'a.mp4'
    cache = tmp_path / 'c'
    expected = small(video, cache=cache).images(EVERYTHING)
    rng = np.random.default_rng(0)
    for k in range(40):
        file = sorted(cache.iterdir())[rng.integers(3)]
        how = damage_cache_file(file, rng)
        store = ['memory', 'disk'][k % 2]
        crops = small(video, store=store, cache=cache).images(EVERYTHING)
        is_cut_or_gone = how in (1, 3)
        if file.name.startswith('crops') or is_cut_or_gone:
            assert torch.equal(crops, expected), (k, file.name, how)
        small(video, cache=cache)


# Unreadable files


def cut_in_half(path):
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


@quiet
def test_unreadable_video(tmp_path):
    videos = write_clips(tmp_path / 'v', 12)
    (videos / 'a.mp4').write_bytes(b'junk')
    for on_error in ('images', 'raise'):
        with pytest.raises(MediaError, match='a.mp4'):
            small(videos, on_error=on_error)
    frames = small(videos, on_error='skip')
    assert frames.report == {'unreadable video': 1}
    assert len(frames.paths) == 2

    for path in videos.iterdir():
        path.write_bytes(b'junk')
    with pytest.raises(DataError, match='none of the videos'):
        small(videos, on_error='skip')


@pytest.fixture
def stills(tmp_path):
    "Six images, of which the third is none and the fourth ends early"
    folder = tmp_path / 's'
    write_images(folder, several=())
    (folder / 'img002.png').write_bytes(b'x')
    cut_in_half(folder / 'img003.jpg')
    return folder


@quiet
@pytest.mark.parametrize('store', ['memory', 'disk'])
def test_unreadable_images_are_left_out(tmp_path, stills, store):
    for _ in ('decoded', 'from the cache'):
        frames = small(stills, crop='whole', store=store, cache=tmp_path / 'c')
        assert frames.report == {'unreadable image': 2}
        assert frames.frame.tolist() == [0, 1, 4, 5]
        assert frames.name(2) == 'img004.png'


@quiet
def test_unreadable_image_raises_if_asked_to(stills):
    with pytest.raises(MediaError, match='img002.png'):
        small(stills, crop='whole', on_error='raise')


@quiet
def test_cut_image_shows_only_when_read(stills):
    frames = small(stills, crop='whole', store='none')
    frames.images(EVERYTHING)
    assert frames.report == {'unreadable image': 1}
    assert len(frames) == 5
    assert int(frames.unread) == 1


# Options


@pytest.mark.parametrize('store', ['memory', 'none'])
@pytest.mark.parametrize(
    'options,error,text',
    [
        (dict(size=0), ConfigError, 'size'),
        (dict(step=1.5), ConfigError, 'step'),
        (dict(max_frames=0), ConfigError, 'max_frames'),
        (dict(store='x'), ConfigError, "'x'"),
        (dict(store='disk'), ConfigError, 'cache'),
        (dict(on_error='no'), ConfigError, 'on_error'),
        (dict(crop=[np.nan] * 4), DataError, 'not finite'),
        (dict(crop=[1, 2, 3]), DataError, 'shape'),
        (dict(crop=[500, 0, 9, 9]), DataError, 'outside'),
        (dict(crop=[0, 0, -3, 9]), DataError, 'not positive'),
        (dict(crop=[-5e7, -5e7, 1e8, 1e8]), DataError, '20 times'),
        (dict(side=0), ConfigError, 'side'),
        (dict(side=float('nan')), ConfigError, 'side'),
        (dict(fill=-1), ConfigError, 'fill'),
        (dict(crop=np.zeros((3, 4))), DataError, 'not positive'),
        (dict(crop=[[1, 2, 3, 4], [1, 2]]), DataError, 'boxes'),
        (dict(crop=[]), DataError, 'empty'),
        (dict(crop='nowhere.csv'), DataError, 'no such file'),
        (dict(background=np.zeros((9, 9, 3), np.uint8)), DataError, 'background'),
    ],
)
def test_bad_options(tmp_path, options, error, text, store):
    video = write_clips(tmp_path / 'v', 6, ['a.mp4']) / 'a.mp4'
    options = {'progress': False, 'store': store, **options}
    with pytest.raises(error, match=text):
        VideoFrames(video, **options)
