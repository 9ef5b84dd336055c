"Nets that are exported, with random weights and heatmaps as high as a trained net's."

import torch
from geomrecon.core.skeleton import MOUSE4
from geomrecon.learn.learner import build_model
from geomrecon.models.pose import DomainBatchNorm2d
from geomrecon.puppet.videos import PuppetVideos
from geomrecon.use.export import export
from geomrecon.use.model_file import save_model
from fixtures_use import SMALL

#: A net that is exported in few seconds
LITTLE = SMALL.changed(stages=1, n_deconv=1)


def sure_model(preset, skeleton=MOUSE4, seed=0):
    "A net whose heatmaps reach 0.8, and whose statistics of source and target differ"
    torch.manual_seed(seed)
    model = build_model(skeleton, preset).eval()
    for norm in model.modules():
        if isinstance(norm, DomainBatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.target_mean.normal_(0, 0.1)
            norm.target_var.uniform_(0.7, 1.3)
    images = torch.rand(8, 3, preset.size, preset.size)
    with torch.no_grad():
        stretch(model.pose.head, model.pose(images))
        if model.pose.has_depth:
            stretch(model.pose.depth_head, model.pose(images, depth=True)[1])
    return model


def stretch(head, maps):
    "Let the maps of each joint have the mean 0 and reach 0.8"
    highest, mean = maps.amax((0, 2, 3)), maps.mean((0, 2, 3))
    scale = 0.8 / (highest - mean)
    head.bias.copy_((head.bias - mean) * scale)
    head.weight.mul_(scale[:, None, None, None])


def saved_net(folder, depth=False, **meta):
    "The file of a small net"
    preset = LITTLE.changed(depth=depth)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / 'model.pth'
    save_model(file, sure_model(preset), MOUSE4, preset, **dict(dict(crop='whole'), **meta))
    return file


def exported_net(folder, **options):
    "A small net as an ONNX file beside its model file"
    file = saved_net(folder, **options)
    export(model=str(file))
    return file.with_suffix('.onnx')


def mouse_pictures(n, seed=0, size=64):
    "Pictures of a rendered mouse, (n,size,size,3) uint8"
    mouse = PuppetVideos(MOUSE4, 1, n, size, 'real', seed=seed, split='test')
    return mouse.frames().images(range(n)).permute(0, 2, 3, 1).numpy()
