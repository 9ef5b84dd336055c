"""Going on with a trained model on a new video, without its source: which parts pay?

    python bench/again.py --out results/again.json

Rendered mice with labels, read for measuring alone. Three starts for each seed: a net trained on
rendered stills ('source'), that net adapted to 32 videos of the other look ('adapted'), and a net
trained on stills of the other look ('good'). Each goes on, in every way of `WAYS`, on one new video
of 120 frames (another figure and place). What is in the file already is not made again.
"""

import argparse
import json
import time
from pathlib import Path
import numpy as np
import torch
from geomrecon.core.files import write_atomic
from geomrecon.core.metrics import joint_distances
from geomrecon.core.skeleton import MOUSE4
from geomrecon.data.pairs import pose_dls
from geomrecon.learn.learner import adapt_learner, pose_learner
from geomrecon.learn.presets import get_preset
from geomrecon.learn.source_free import again_learner, target_dls
from geomrecon.puppet.images import PuppetImages
from geomrecon.puppet.pool import render_pool
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.diagnosis import diagnose

#: A small net, so that three seeds take minutes on one core
PRESET = get_preset(
    'tiny-2d',
    size=48,
    width=0.25,
    deconv_width=32,
    warp_width=16,
    gen_width=8,
    gen_res=1,
    bs=16,
    epochs=16,
    adapt_bs=8,
    adapt_bs_target=8,
    rotate=60.0,
)
#: What is changed of the preset to go on
AGAIN = dict(steps=40, adapt_epochs=3, adapt_lr=2e-4, decay=0.99, rec_start=0.0, rec_attach=1.0)
#: name -> options of `again_learner`, and fields of the preset
WAYS = {
    'kept': (dict(anchor=0.0), {}),
    'moving': (dict(anchor=0.0, statistics='moving'), {}),
    'kept, anchor': (dict(anchor=1.0), {}),
    'moving, anchor': (dict(anchor=1.0, statistics='moving'), {}),
    'kept, no rec': (dict(anchor=0.0, terms=('pseudo',)), {}),
    'kept, weak anchor': (dict(anchor=0.1), {}),
    'kept, anchor, no rec': (dict(anchor=1.0, terms=('pseudo',)), {}),
}
STARTS = ('adapted', 'source', 'good')


def quietly(learn, n_epoch):
    with learn.no_bar(), learn.no_logging():
        learn.fit_preset(n_epoch)
    return learn


def starts(seed, folder, names):
    "Nets to go on with: trained on the source, adapted to videos, trained on stills of the target's look"
    looks = dict(synthetic=seed, real=seed + 1000)
    sources = {}
    for look, its_seed in looks.items():
        endless = PuppetImages(MOUSE4, 10_000_000, PRESET.size, look, seed=its_seed)
        path = folder / f'pool_{look}_{seed}.pt'
        sources[look] = render_pool(endless, 3000, path, False)
    valid = PuppetImages(MOUSE4, 8, PRESET.size, 'synthetic', seed=seed + 10_000)
    options = dict(aug=PRESET.aug, seed=seed, device='cpu')

    def trained(look):
        torch.manual_seed(seed)
        dls = pose_dls(sources[look], valid, **PRESET.sizes(False), **options)
        return quietly(pose_learner(dls, PRESET), PRESET.epochs)

    models = {}
    if 'good' in names:
        models['good'] = trained('real').model
    if not {'source', 'adapted'} & {*names}:
        return models
    learn = trained('synthetic')
    videos = PuppetVideos(MOUSE4, 32, 24, PRESET.size, 'real', seed=seed, split='train')
    dls = pose_dls(sources['synthetic'], valid, videos.frames(), **PRESET.sizes(True), **options)
    adapted = quietly(adapt_learner(dls, learn, PRESET), PRESET.adapt_epochs)
    return dict(models, source=learn.model, adapted=adapted.model)


def measured(model, video, frames):
    "PCK@0.05, mean error (percent of the side), and figures without labels"
    labels = video.batch(np.arange(len(frames.frame)))
    found = model.predict(labels['image'])[0]
    distance = joint_distances(found, labels['keypoints'])[labels['visible'].bool()]
    return dict(
        pck=100 * (distance <= 0.05).float().mean().item(),
        error=100 * distance.mean().item(),
        diagnosis=diagnose(model, frames, MOUSE4, gamma=PRESET.gamma),
    )


def gone_on(model, frames, seed, options, fields):
    "The model after going on: the net, and its teacher"
    preset = PRESET.changed(**{**AGAIN, **fields})
    dls = target_dls(
        frames,
        MOUSE4,
        steps=preset.steps,
        bs=preset.adapt_bs_target,
        aug=preset.aug,
        seed=seed,
        device='cpu',
    )
    torch.manual_seed(seed)
    started = time.time()
    learn = quietly(again_learner(dls, model, preset, **options), preset.adapt_epochs)
    seconds = time.time() - started
    labelled = float(np.mean(learn.loss_history.steps['labelled']))
    return learn.model, learn.pseudo_label.teacher, seconds, labelled


def run(out, seeds, ways, names):
    rows = json.loads(out.read_text(encoding='utf-8')) if out.exists() else []
    done = {(row['seed'], row['start'], row['way']) for row in rows}
    for seed in seeds:
        wanted = [(start, way) for start in names for way in ('', *ways)]
        if all((seed, *each) in done for each in wanted):
            continue
        kept = out.with_name(f'{out.stem}_starts_{seed}.pt')
        models = torch.load(kept, weights_only=False) if kept.exists() else None
        models = models or starts(seed, out.parent, names)
        torch.save(models, kept)
        video = PuppetVideos(MOUSE4, 1, 120, PRESET.size, 'real', seed=100 + seed, split='test')
        frames = video.frames()
        for start, way in wanted:
            if (seed, start, way) in done:
                continue
            model = models[start].eval()
            row = dict(seed=seed, start=start, way=way)
            if way:
                model, teacher, row['seconds'], row['labelled'] = gone_on(
                    model, frames, seed, *WAYS[way]
                )
                row.update(measured(model, video, frames))
                model.pose.load_state_dict(teacher.net.state_dict())
                row['teacher'] = measured(model, video, frames)
            else:
                row.update(measured(model, video, frames))
            rows.append(row)
            write_atomic(out, json.dumps(rows, indent=1) + '\n')
            shown = row.get('teacher', {})
            print(seed, start, way, f"{row['pck']:.1f} {row['error']:.2f}", end=' ')
            print(f"{shown.get('pck', 0):.1f} {shown.get('error', 0):.2f}", flush=True)


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=Path, default=Path('results/again.json'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--ways', nargs='+', default=list(WAYS))
    parser.add_argument('--starts', nargs='+', default=list(STARTS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    run(asked.out, asked.seeds, asked.ways, asked.starts)
