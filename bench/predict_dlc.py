"""DeepLabCut's own inference loop over a video, with a ResNet-50 of random weights, as `bench/predict.py` calls it.

It runs in the environment of DeepLabCut, and prints one line of JSON. Its loop reads a frame, transforms it, and hands
batches to the net; predictions are kept in memory, and nothing is drawn or written.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
import torch
import deeplabcut
from deeplabcut.pose_estimation_pytorch.apis.utils import get_pose_inference_runner
from deeplabcut.pose_estimation_pytorch.apis.videos import video_inference
from deeplabcut.pose_estimation_pytorch.config import PoseConfig
from deeplabcut.pose_estimation_pytorch.models import PoseModel

BODYPARTS = ['snout', 'leftear', 'rightear', 'tailbase']


def project(folder):
    "The configuration of a project with one animal"
    return dict(
        Task='bench',
        scorer='bench',
        date='Jan1',
        multianimalproject=False,
        identity=False,
        project_path=str(folder),
        engine='pytorch',
        video_sets={},
        bodyparts=BODYPARTS,
        start=0,
        stop=1,
        numframes2pick=20,
        skeleton=[],
        TrainingFraction=[0.95],
        iteration=0,
        default_net_type='resnet_50',
        default_augmenter='default',
        snapshotindex=-1,
        batch_size=8,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clip', required=True)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--threads', type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        config = PoseConfig.build(
            project(folder), folder / 'pytorch_config.yaml', net_type='resnet_50', top_down=False
        )
        config['model']['backbone']['pretrained'] = False
        model = PoseModel.build(config['model'])
        torch.save(dict(model=model.state_dict(), metadata=dict(epoch=0)), folder / 'random.pt')
        runner = get_pose_inference_runner(
            config, folder / 'random.pt', batch_size=args.batch, device='cpu', max_individuals=1
        )
        started = time.perf_counter()
        predictions = video_inference(args.clip, runner)
        seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = dict(frames=len(predictions), seconds=seconds, peak_mb=peak_mb)
    print(json.dumps(dict(told, version=deeplabcut.__version__)))


if __name__ == '__main__':
    main()
