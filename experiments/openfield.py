"""The real case, two sources and three seeds.  python experiments/openfield.py --data ../shared/data/openfield --sources narrow randomised --seeds 0 1 2
Each run is one `geomrecon adapt` with its controls; labels of the development frames are read after training, to measure."""

import argparse, json, os, platform
from pathlib import Path
import torch
from geomrecon.use.adapt import adapt
from geomrecon.use.seeds import merge_seeds, format_seed_table
from geomrecon.use.results_file import read_results
from geomrecon.core.files import write_atomic

ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
ap.add_argument('--data', type=Path, default=Path('../shared/data/openfield'))
ap.add_argument('--out', type=Path, default=Path('runs/openfield-seeds'))
ap.add_argument('--sources', nargs='+', default=['narrow', 'randomised'])
ap.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
ap.add_argument('--threads', type=int, default=0, help='torch threads, 0: as torch chooses')
ap.add_argument('--merge', type=Path, help='write the merged table of all finished runs here')
a = ap.parse_args()
PRESET = dict(
    narrow='plain', randomised='compact'
)  # narrow: appearance is randomised neither by the renderer nor by augmentation
if a.threads:
    torch.set_num_threads(a.threads)
run = lambda src, s: a.out / f'{src}-{s}'
for s in a.seeds:
    for src in a.sources:
        if not (run(src, s) / 'results.json').exists():
            adapt(
                'mouse',
                a.data / 'm3v1.mp4',
                run(src, s),
                source=src,
                crop='motion',
                eval=a.data / 'dev_labels.csv',
                preset=PRESET.get(src, 'compact'),
                seed=s,
                control=True,
                video=False,
                cache=a.out / 'cache',
                bar=False,
            )
if a.merge:
    per_seed = []
    for s in a.seeds:
        both = [read_results(run(src, s)) for src in a.sources]
        per_seed.append(
            dict(
                both[0],
                source=None,
                preset={src: r['preset'] for src, r in zip(a.sources, both)},
                rows=[
                    {'median_px': r['median_px'], **r, 'case': src}
                    for src, res in zip(a.sources, both)
                    for r in res['rows']
                ],
            )
        )
    res = merge_seeds(per_seed)
    res.update(
        command=f"python experiments/openfield.py --sources {' '.join(a.sources)} --seeds {' '.join(map(str, a.seeds))}",
        torch=torch.__version__,
        machine=f'{os.cpu_count()} cores, {platform.machine()}, no GPU',
        threads=torch.get_num_threads(),
    )
    write_atomic(a.merge, json.dumps(res, indent=1) + '\n')
    print(format_seed_table(res))
