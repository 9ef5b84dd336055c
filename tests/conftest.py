"What every test shares: one thread, fixed seeds, and the real mouse video where it is at hand."

import random
from pathlib import Path
import numpy as np, pytest, torch

root = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    "Every test starts from the same random state, whatever ran before it"
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def repo() -> Path:
    "The repository's root"
    return root


@pytest.fixture(scope='session')
def openfield() -> Path:
    "Folder of the open-field mouse video and its labelled development frames; a test that asks for it is skipped where there is none"
    d = root.parent / 'shared' / 'data' / 'openfield'
    missing = [n for n in ('m3v1.mp4', 'dev_labels.csv', 'dev') if not (d / n).exists()]
    if missing:
        pytest.skip(
            f"the open-field data is not at ../shared/data/openfield: no {', '.join(missing)}"
        )
    return d
