"""Three seeds of the built-in benchmark: what does each step add, in 2D and in 3D?  python experiments/benchmark.py --out runs/benchmark --seeds 0 1 2 --merge results/benchmark.json
Each seed is one `geomrecon demo`: source, style and alignment, integrated pseudo-labels, reconstruction. The merged table holds means, deviations and what each step adds, paired by seed."""

import argparse, json, os, platform
from pathlib import Path
import torch
from geomrecon.use.demo import demo
from geomrecon.use.seeds import merge_seeds, format_seed_table
from geomrecon.use.results_file import read_results
from geomrecon.core.files import write_atomic

ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
ap.add_argument('--out', type=Path, default=Path('runs/benchmark'))
ap.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
ap.add_argument('--skeleton', default='hand')
ap.add_argument('--preset', default='tiny')
ap.add_argument('--gap', action='store_true')
ap.add_argument('--control', default='bn', help='none, bn or time, see geomrecon demo --help')
ap.add_argument(
    '--set',
    nargs='+',
    action='extend',
    help='fields of the preset to change, see geomrecon demo --help',
)
ap.add_argument('--threads', type=int, default=0, help='torch threads, 0: as torch chooses')
ap.add_argument('--merge', type=Path, help='write the merged table of all finished seeds here')
a = ap.parse_args()
if a.threads:
    torch.set_num_threads(a.threads)
run = lambda s: a.out / f"{a.skeleton}{'-gap' if a.gap else ''}-{s}"
for s in a.seeds:
    if not (run(s) / 'results.json').exists():
        demo(
            run(s),
            a.skeleton,
            a.preset,
            a.set,
            s,
            a.gap,
            control=a.control,
            cache=a.out / 'cache',
            bar=False,
        )
if a.merge:
    each = [read_results(run(s)) for s in a.seeds]
    res = merge_seeds(each)
    res['label_quality'] = [
        {
            m: [{k: round(v, 4) for k, v in e.items()} for e in q]
            for m, q in r.get('label_quality', {}).items()
        }
        for r in each
    ]  # By seed, method and epoch
    res.update(
        command=f"python experiments/benchmark.py --skeleton {a.skeleton} --preset {a.preset} --seeds {' '.join(map(str, a.seeds))}"
        + ' --gap' * a.gap
        + (f" --set {' '.join(a.set)}" if a.set else ''),
        torch=torch.__version__,
        machine=f'{os.cpu_count()} cores, {platform.machine()}, no GPU',
        threads=torch.get_num_threads(),
    )
    write_atomic(a.merge, json.dumps(res, indent=1) + '\n')
    print(format_seed_table(res))
