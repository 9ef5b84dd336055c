"""Every kind of file that the package reads, damaged at random: a typed error, or what was stored.

Files that the package itself writes carry a digest. After a blow they are refused, made again, or
read as they were: never is another content taken for what was stored. The same files as earlier
versions wrote them, without a digest, have the right shapes and finite numbers, or are refused.
Files that people write have no digest: what is read from them has to be sound.
"""

import copy
import json
import pickle
import re
from pathlib import Path
import cv2
import numpy as np
import pytest
import torch
import yaml
from fastai.optimizer import Adam
from fixtures_hands import write_h3d, write_rhd
from fixtures_own import clip_frames, write_clips
from fixtures_results import HAND_RESULTS, MOUSE_RESULTS, seeds_results
from fixtures_runs import made_up_run
from fuzz import ODD, fuzz_file, read_all
from geomrecon.core.errors import CheckpointError
from geomrecon.core.pickles import load_pickle
from geomrecon.core.sealed import content_digest, save_sealed
from geomrecon.core.skeleton import HAND21, MOUSE4, get_skeleton, skeleton_to_dict
from geomrecon.data.crop_store import CropFile, crop_record, load_arrays, save_arrays, seal_record
from geomrecon.data.frames import VideoFrames
from geomrecon.data.images import image_size, read_image
from geomrecon.data.motion import read_boxes
from geomrecon.learn.checkpoint import (
    PoseLearner,
    learner_state,
    load_checkpoint,
    load_saved,
    restore_learner,
)
from geomrecon.learn.learner import build_model
from geomrecon.learn.presets import get_preset, preset_text, read_preset
from geomrecon.learn.pseudo_label import PseudoLabel
from geomrecon.models.weights import fit_state, read_state
from geomrecon.models.style import ConvEncoder, StyleNet, load_style_net
from geomrecon.models.stylise import StyleStats, load_style_stats
from geomrecon.paper.run_files import load_runs
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.pool import render_pool
from geomrecon.puppet.rig import compile_rig
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.readers.h3d import H3D
from geomrecon.readers.rhd import RHD
from geomrecon.use.model_file import load_model, save_model
from geomrecon.use.report import report_html
from geomrecon.use.result_table import format_table, html_table, metrics_of
from geomrecon.use.results_file import read_results, write_results
from geomrecon.use.seeds import format_seed_table
from geomrecon.use.task import train_phase

# What is damaged here -> blows
HERE = {
    'pool of rendered images': 150,
    'pool of an earlier version': 150,
    'rendered videos': 150,
    'arrays of a cache': 300,
    'crop file': 300,
    'cached crops of a video': 120,
    'packed crops': 120,
    'checkpoint': 300,
    'checkpoint of an earlier version': 250,
    'model file': 250,
    'model file of an earlier version': 60,
    'weights of others': 150,
    'weights in the old form': 100,
    'style net': 200,
    'style net of an earlier version': 150,
    'style statistics': 150,
    'inner types of RHD': 108,
    'results.json': 300,
    'results.json of seeds': 200,
    'results.json in the report': 25,
    'run of the evidence': 100,
    'preset.yaml': 300,
    'skeleton.yaml': 300,
    'boxes.csv': 150,
    'images': 200,
}
# What is damaged elsewhere: file and test -> blows in all
ELSEWHERE = {
    ('test_own_fuzz', 'test_fuzz_coco'): 220,
    ('test_own_fuzz', 'test_fuzz_coco_json_alone'): 220,
    ('test_own_fuzz', 'test_fuzz_dlc_csv'): 220,
    ('test_own_fuzz', 'test_fuzz_lightning'): 220,
    ('test_own_fuzz', 'test_fuzz_h5'): 440,
    ('test_own_fuzz', 'test_fuzz_image_folder'): 220,
    ('test_own_fuzz', 'test_fuzz_video'): 220,
    ('test_own_fuzz', 'test_fuzz_boxes'): 220,
    ('test_data_hands', 'test_fuzz'): 1200,
    ('test_data_h36m', 'test_fuzz'): 1200,
    ('test_data_surreal', 'test_surreal_fuzz'): 220,
    ('test_data_surreal', 'test_crops_fuzz'): 220,
    ('test_data_surreal', 'test_lsp_fuzz'): 220,
}
quiet = pytest.mark.filterwarnings('ignore')


def test_all_fuzz_together():
    "At least 4,000 blows; the tests of the list exist"
    assert sum(HERE.values()) >= 4000
    assert sum(HERE.values()) + sum(ELSEWHERE.values()) >= 9000
    folder = Path(__file__).parent
    for module, test in ELSEWHERE:
        assert f'def {test}(' in (folder / f'{module}.py').read_text()
    here = Path(__file__).read_text()
    for name in HERE:
        assert here.count(f"'{name}'") >= 2, f'no test of {name!r}'


def fuzz_here(name, path, read, accepted=None, share=1.0):
    "As many blows as the list says, or a share of them"
    n = round(HERE[name] * share)
    told = fuzz_file(path, read, n, seed=len(name), accepted=accepted)
    assert sum(told.values()) - told['read'] == n
    return told


def same_as(content):
    "A check that what is read is this"
    digest = content_digest(content)

    def check(found):
        assert content_digest(found) == digest, 'another content was accepted'

    return check


def without_digest(path):
    "Write the file as an earlier version did"
    content = torch.load(path, weights_only=True)
    del content['digest']
    torch.save(content, path)


def all_finite(tensors):
    for name, tensor in tensors.items():
        assert tensor.isfinite().all(), name


# Caches


N_IMAGES = 4
MICE = PuppetImages(MOUSE4, 1000, 24, 'narrow', seed=0)


def columns_of(pool):
    return pool.batch(np.arange(len(pool)))


def read_pool(path):
    return columns_of(render_pool(MICE, N_IMAGES, path, bar=False))


def test_pool_is_made_again_or_what_was_asked_for(tmp_path):
    path = tmp_path / 'pool.pt'
    content = read_pool(path)
    told = fuzz_here('pool of rendered images', path, read_pool, same_as(content))
    # a pool is a cache: whatever happens to it, there is one
    assert told['read'] == HERE['pool of rendered images']


def test_pool_of_an_earlier_version_is_sound(tmp_path):
    path = tmp_path / 'pool.pt'
    content = read_pool(path)
    without_digest(path)
    written = path.stat().st_mtime_ns
    read_pool(path)
    assert path.stat().st_mtime_ns == written, 'it is used as it is'

    def sound(found):
        for name, values in content.items():
            assert found[name].shape == values.shape, name
            assert found[name].dtype == values.dtype, name
        all_finite(found)
        assert torch.equal(found['image'][0], content['image'][0])

    fuzz_here('pool of an earlier version', path, read_pool, sound)


def test_rendered_videos_are_made_again_or_what_was_asked_for(tmp_path):
    path = tmp_path / 'videos.npz'

    def read(path):
        return PuppetVideos(MOUSE4, 1, 2, 24, cache=path).batch(range(2))

    told = fuzz_here('rendered videos', path_of(read, path), read, same_as(read(path)))
    assert told['read'] == HERE['rendered videos']


def path_of(read, path):
    "The path, after the first call has written the file"
    read(path)
    return path


def test_arrays_are_what_was_kept_or_nothing(tmp_path):
    path = tmp_path / 'boxes-1.npz'
    arrays = dict(boxes=np.eye(4), found=np.array([True, False]), row=np.arange(3))
    save_arrays(path, **arrays)
    same = same_as(arrays)

    def same_or_nothing(found):
        if found is not None:
            same(found)

    def read(path):
        return load_arrays(path, list(arrays))

    told = fuzz_here('arrays of a cache', path, read, same_or_nothing)
    assert told['read'] == HERE['arrays of a cache']


def test_records_of_a_crop_file_are_whole_or_nothing(tmp_path):
    path = tmp_path / 'crops-1.bin'
    records = np.zeros(4, crop_record(8))
    records['frame'] = range(4)
    records['data'] = np.random.default_rng(0).integers(0, 256, records['data'].shape)
    for record in records:
        seal_record(record)
    path.write_bytes(records.tobytes())
    known = {record.tobytes() for record in records}

    def read(path):
        crops = CropFile(path, 8)
        return [crops.read(i) for i in range(len(crops))]

    def whole_or_nothing(found):
        for record in found:
            assert record is None or record.tobytes() in known

    fuzz_here('crop file', path, read, whole_or_nothing)


@quiet
@pytest.mark.parametrize('ending', ['crops-*.npz', 'crops-*.bin', 'boxes-*.npz'])
def test_cached_crops_are_those_of_the_video(tmp_path, ending):
    write_clips(tmp_path / 'v', 6, ['a.mp4'])
    cache = tmp_path / 'cache'

    def read(path):
        options = dict(crop='motion', cache=cache, progress=False)
        frames = VideoFrames(tmp_path / 'v', 16, **options)
        return dict(crops=frames.images(slice(None)), boxes=frames.boxes)

    content = read(None)
    (path,) = cache.glob(ending)
    fuzz_here('cached crops of a video', path, read, same_as(content), share=1 / 3)


@quiet
@pytest.mark.parametrize('ending', ['*.npy', '*.u1'])
def test_packed_crops_are_those_of_the_pictures(tmp_path, ending):
    write_h3d(tmp_path / 'set', n_videos=1, n_frames=4, size=32)
    source = H3D(tmp_path / 'set', size=16)
    n = len(source)

    def read(path):
        return source.pack(tmp_path / 'pack', bar=False).batch(range(n))['image']

    content = read(None)
    (path,) = (tmp_path / 'pack').glob(ending)
    fuzz_here('packed crops', path, read, same_as(content), share=1 / 2)


# What a run keeps


class SmallNet(torch.nn.Module):
    "Two layers in place of a pose net"

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)


class SmallModel(torch.nn.Module):
    "A model with a part called `pose`, whose moving average labels"

    def __init__(self):
        super().__init__()
        self.pose = SmallNet()


class Loader:
    "Stands for the loaders: nothing but a device, and no generator of its own"

    device = torch.device('cpu')
    train = None


def small_learner():
    "A learner that was never trained, with an optimiser and a teacher"
    torch.manual_seed(0)
    labels = PseudoLabel(MOUSE4.flip_index, gamma=None, keep=0.5, decay=0.9)
    learn = PoseLearner.__new__(PoseLearner)
    learn.model = SmallModel()
    learn.cbs = [labels]
    learn.dls = Loader()
    learn.opt = Adam(learn.model.parameters(), lr=1e-3)
    for parameter in learn.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learn.opt.step()
    return learn


def small_checkpoint(folder):
    "A checkpoint of the small learner, as `Checkpoint` writes it"
    learn = small_learner()
    learn.n_epoch = 4
    (labels,) = learn.cbs
    teacher = learn.model.pose.state_dict()
    state = learner_state(learn, 2)
    state['terms'] = {labels.term: {f'net.{name}': value for name, value in teacher.items()}}
    state['history'] = dict(sup=[0.5, 0.25], pseudo=[0.1, 0.2])
    path = folder / 'last.ckpt'
    save_sealed(dict(state, meta=dict(stage='full', preset=dict(lr=0.1)), seconds=3.5), path)
    return path


def test_checkpoint_is_refused_or_what_was_written(tmp_path):
    path = small_checkpoint(tmp_path)
    fuzz_here('checkpoint', path, load_checkpoint, same_as(load_checkpoint(path)))


def test_checkpoint_of_an_earlier_version_is_put_back_whole_or_not_at_all(tmp_path):
    path = small_checkpoint(tmp_path)
    without_digest(path)
    learn = small_learner()
    before = copy.deepcopy(learn.model.state_dict())
    optimiser = copy.deepcopy(learn.opt.state_dict())

    def restored(path):
        learn.model.load_state_dict(before)
        learn.opt.load_state_dict(copy.deepcopy(optimiser))
        generator = torch.get_rng_state()
        try:
            return restore_learner(learn, load_checkpoint(path), path)
        except Exception:
            assert torch.equal(torch.get_rng_state(), generator)
            now = content_digest(dict(learn.model.state_dict()))
            assert now == content_digest(dict(before)), 'an error changed the model'
            raise

    def sound(epoch):
        assert 0 <= epoch <= 4
        all_finite(learn.model.state_dict())
        for values in learn.opt.state_dict()['state']:
            all_finite({name: torch.as_tensor(value) for name, value in values.items()})
        torch.rand(1)
        np.random.rand()

    assert restored(path) == 2
    fuzz_here('checkpoint of an earlier version', path, restored, sound)


TINY = get_preset(
    'tiny',
    depth=False,
    size=32,
    width=0.0625,
    deconv_width=8,
    warp_width=4,
    gen_width=4,
    gen_res=1,
)


def write_model(folder):
    torch.manual_seed(0)
    path = folder / 'model.pth'
    save_model(path, build_model(MOUSE4, TINY), MOUSE4, TINY, crop='whole')
    return path


def test_model_file_is_refused_or_what_was_written(tmp_path):
    path = write_model(tmp_path)
    fuzz_here('model file', path, load_saved, same_as(load_saved(path)))


def test_model_file_of_an_earlier_version_is_a_model(tmp_path):
    path = write_model(tmp_path)
    without_digest(path)
    images = torch.rand(2, 3, 32, 32)

    def sound(loaded):
        model, skeleton, preset, meta = loaded
        keypoints = model.predict(images)[0]
        assert keypoints.shape == (2, len(skeleton.joints), 2)
        all_finite(model.state_dict())

    fuzz_here('model file of an earlier version', path, load_model, sound)


@pytest.mark.parametrize('form', ['weights of others', 'weights in the old form'])
def test_weights_of_others_fit_and_are_finite(tmp_path, form):
    path = tmp_path / 'weights.pth'
    net = SmallNet()
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=form == 'weights of others')

    def read(path):
        return fit_state(SmallNet(), read_state(path), path)

    fuzz_here(form, path, read, accepted=lambda filled: all_finite(filled.state_dict()))


def write_style_net(folder):
    torch.manual_seed(0)
    path = folder / 'style_net.pth'
    StyleNet(ConvEncoder((2, 4))).save(path)
    return path


def weights_of_style(path):
    return dict(load_style_net(path).state_dict())


def test_style_net_is_refused_or_what_was_written(tmp_path):
    path = write_style_net(tmp_path)
    fuzz_here('style net', path, weights_of_style, same_as(weights_of_style(path)))


def test_style_net_of_an_earlier_version_is_finite(tmp_path):
    path = write_style_net(tmp_path)
    without_digest(path)
    fuzz_here('style net of an earlier version', path, weights_of_style, all_finite)


def test_style_statistics_are_refused_or_what_was_written(tmp_path):
    path = tmp_path / 'style_stats.pth'
    StyleStats(torch.rand(3, 4), torch.rand(3, 4), 'a-b').save(path)

    def read(path):
        stats = load_style_stats(path)
        return dict(mean=stats.mean, std=stats.std, key=stats.key)

    fuzz_here('style statistics', path, read, same_as(read(path)))


def test_run_names_the_checkpoint_to_remove(tmp_path):
    "What is damaged is one phase; the checkpoints of the others are not touched"
    path = small_checkpoint(tmp_path)
    other = tmp_path / 'other.ckpt'
    other.write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-500])
    learn = small_learner()
    learn.add_cb = learn.cbs.append
    with pytest.raises(CheckpointError, match='last.ckpt.*remove it to train that phase again'):
        train_phase(learn, path, 4, meta=dict(stage='full'), bar=False)
    load_checkpoint(other)


# Pickles of others


INNER = [
    *ODD,
    np.array(3.0),
    np.zeros((42, 3), object),
    np.zeros((42, 3), complex),
    np.zeros((42, 3), bool),
    np.full((42, 3), 2**63, np.uint64),
    np.zeros((42, 3), 'S3'),
    np.array([[1, [2]]], object),
    {1},
    b'x',
    bytearray(b'y'),
    1j,
    np.dtype('f4'),
]


@quiet
def test_rhd_with_other_inner_types(tmp_path):
    write_rhd(tmp_path, n_train=2, n_test=1)
    (path,) = tmp_path.rglob('anno_training.pickle')
    content = load_pickle(path)
    first = next(iter(content))
    blows = 0
    for odd in INNER:
        for key in (None, *content[first]):
            changed = copy.deepcopy(content)
            if key is None:
                changed[first] = odd
            else:
                changed[first][key] = odd
            path.write_bytes(pickle.dumps(changed, 2))
            read_all(lambda on_error: RHD(tmp_path, size=32, on_error=on_error))
            blows += 1
    assert blows == HERE['inner types of RHD']


# Results


def shown(path):
    "Results as the terminal shows them, and the tables of the page"
    results = read_results(path)
    rows = results['rows']
    page = ''.join(html_table(rows, metric) for metric in metrics_of(rows))
    return format_table(rows) + page


@pytest.mark.parametrize('results', [HAND_RESULTS, MOUSE_RESULTS], ids=['hand', 'mouse'])
def test_results_are_shown_or_refused(tmp_path, results):
    path = write_results(tmp_path, results)
    told = fuzz_here('results.json', path, shown, accepted=no_odd_number, share=1 / 2)
    assert told['read'] < HERE['results.json'] / 2


def no_odd_number(text):
    assert not re.search(r'\b(nan|inf|None)\b', text)


def test_results_of_seeds_are_shown_or_refused(tmp_path):
    path = write_results(tmp_path, seeds_results())

    def read(path):
        return format_seed_table(read_results(path))

    fuzz_here('results.json of seeds', path, read, accepted=no_odd_number)


@quiet
def test_results_in_the_report_are_shown_or_refused(tmp_path):
    path = write_results(tmp_path, seeds_results())

    def read(path):
        return report_html('A run', read_results(path))

    fuzz_here('results.json in the report', path, read)


def test_run_of_the_evidence_is_read_or_refused(tmp_path):
    run = made_up_run('ours', 3, HAND21)
    path = tmp_path / '3.json'
    path.write_text(json.dumps(run))
    load_runs(tmp_path)
    fuzz_here('run of the evidence', path, lambda path: load_runs(path.parent))


# Settings


def test_preset_has_every_field_of_its_kind(tmp_path):
    path = tmp_path / 'preset.yaml'
    path.write_text(preset_text('tiny'))
    whole = get_preset('tiny').flat()

    def sound(preset):
        for name, value in preset.flat().items():
            if value is not None and whole[name] is not None:
                number = (int, float)
                kinds = number if isinstance(whole[name], number) else type(whole[name])
                assert isinstance(value, kinds), name
            if isinstance(value, float):
                assert np.isfinite(value), name

    fuzz_here('preset.yaml', path, read_preset, sound)


def write_skeleton(folder, skeleton):
    path = folder / 'skeleton.yaml'
    path.write_text(yaml.safe_dump(skeleton_to_dict(skeleton)))
    return path


@pytest.mark.parametrize('skeleton', [MOUSE4, HAND21], ids=['mouse', 'hand'])
def test_skeleton_with_its_rig_is_sound_or_refused(tmp_path, skeleton):
    path = write_skeleton(tmp_path, skeleton)
    assert get_skeleton(path) == skeleton

    def read(path):
        found = get_skeleton(path)
        if found.rig:
            compile_rig(found)
        return found

    def sound(found):
        n = len(found.joints)
        assert all(isinstance(joint, str) for joint in found.joints)
        for pair in (*found.bones, *found.flip_pairs):
            assert all(0 <= i < n for i in pair)

    fuzz_here('skeleton.yaml', path, read, sound, share=1 / 2)


def test_boxes_are_numbers_or_refused(tmp_path):
    path = tmp_path / 'boxes.csv'
    rows = [f'{i},{5 + i},6,30.5,30' for i in range(4)]
    path.write_text('\n'.join(['frame,x,y,w,h', *rows]))

    def sound(boxes):
        assert boxes.ndim == 2
        assert boxes.shape[1] == 4

    fuzz_here('boxes.csv', path, read_boxes, sound)


@quiet
@pytest.mark.parametrize('ending', ['png', 'jpg', 'webp', 'tiff', 'bmp'])
def test_images_are_pictures_or_refused(tmp_path, ending):
    path = tmp_path / f'a.{ending}'
    cv2.imwrite(str(path), clip_frames(1, hw=(20, 30))[0][0])

    def read(path):
        return image_size(path), read_image(path)

    def sound(found):
        size, image = found
        assert image.dtype == np.uint8
        assert image.ndim == 3 and image.shape[2] == 3
        assert image.shape[:2] == size

    fuzz_here('images', path, read, sound, share=1 / 5)
