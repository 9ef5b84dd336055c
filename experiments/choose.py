"""Choices of a preset, compared on validation data only.  python experiments/choose.py --stage source --set depth_weight=1 --set depth_grad=true
Trains up to a stage of the built-in benchmark (source, aligned, pseudo or full; control: as many plain epochs as aligned has) with changed fields and prints the figures on source images held out and on *validation* videos of the target, whose figures, places
and movements are neither those of training nor those of the test. Settings of `tiny` that notebooks justify with figures were compared this way, on seed 0; test videos are for the three-seed tables alone."""

import argparse, json
from pathlib import Path
import torch
from geomrecon.use.ladder import benchmark
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.measure import evaluate, row_of
from geomrecon.learn.presets import read_preset

ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
ap.add_argument('--out', type=Path, default=Path('runs/choose'))
ap.add_argument(
    '--stage', default='source', choices=('source', 'control', 'aligned', 'pseudo', 'full')
)
ap.add_argument(
    '--set', action='append', default=[], help='field=value of the preset, may be repeated'
)
ap.add_argument('--preset', default='tiny')
ap.add_argument('--skeleton', default='hand')
ap.add_argument('--seed', type=int, default=0)
ap.add_argument('--threads', type=int, default=0, help='torch threads, 0: as torch chooses')
a = ap.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
p = read_preset(a.preset, a.set)
run = a.out / '_'.join([a.preset, a.skeleton, *a.set]).replace('/', '-') / str(a.seed)
run.mkdir(parents=True, exist_ok=True)
task, _ = benchmark(run, a.skeleton, p, a.seed, cache=a.out / 'cache')
task.quality = None
valid = PuppetVideos(
    a.skeleton, 16, 16, p.size, 'real', seed=0, split='valid', cache=a.out / 'cache'
)


def show(stage, learn, domain):
    for where, data in (('source, held out', task.valid), ('target, validation', valid)):
        r = row_of(evaluate(learn.model, data, domain))
        kinds = [k for k in ('pck', 'epe3d', 'pa_epe3d') if r.get(k)]
        print(
            f'{stage:8} {where:20}', ', '.join(f"{k} {r[k]['all']:.1f}" for k in kinds), flush=True
        )
        with open(run / 'figures.jsonl', 'a') as f:
            f.write(
                json.dumps(
                    dict(
                        stage=stage, where=where, set=a.set, seed=a.seed, **{k: r[k] for k in kinds}
                    )
                )
                + '\n'
            )


base, _ = task.pretrain(False)
show('source', base, 'source')
if a.stage == 'control':
    show('control', task.control(base.model.pose, p.align_epochs, p.epochs, False)[0], 'source')
elif a.stage != 'source' and p.restyle:
    base, _ = task.align(base.model.pose, False)
    show('aligned', base, 'source')
if a.stage in ('pseudo', 'full'):
    show(
        a.stage,
        task.adapt(
            base.model.pose, ('pseudo',) if a.stage == 'pseudo' else ('pseudo', 'rec'), bar=False
        )[0],
        'target',
    )
