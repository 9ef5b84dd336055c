"""The hot parts of a training step as they are usually written: one sample, joint or bone at a time, on the host, with NumPy, OpenCV and LAPACK.

Written from the equations, as something to compare with: `step.py` checks that each of these gives what the package gives before it times either."""

import math
import cv2, numpy as np, torch


def pixel_matrix(M, n):
    "A (2,3) matrix over [-1,1] as one over pixel indices of an n x n image"
    T = np.array([[n / 2, 0, n / 2 - 0.5], [0, n / 2, n / 2 - 0.5], [0, 0, 1]])
    return (T @ np.vstack([M, [0, 0, 1]]) @ np.linalg.inv(T))[:2]


def augment(images, M, kp=None):
    "Images (B,3,S,S) uint8 moved by M (B,2,3), and their joints: an OpenCV call per image, a product per joint"
    out, moved = [], []
    for i, img in enumerate(images):
        img = img.permute(1, 2, 0).numpy()
        m = M[i].numpy().astype(np.float64)
        img = cv2.warpAffine(
            img,
            pixel_matrix(m, img.shape[0]),
            img.shape[1::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        out.append(torch.from_numpy(img).permute(2, 0, 1).float() / 255)
        if kp is not None:
            moved.append(np.stack([m[:, :2] @ k + m[:, 2] for k in kp[i].numpy()]))
    return torch.stack(out), None if kp is None else torch.from_numpy(np.stack(moved)).float()


def label_map(x, y, h, w, sigma):
    "A Gaussian around pixel (x, y)"
    v, u = np.mgrid[:h, :w]
    return np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2))


def label_maps(kp, visible, size, sigma):
    "Target heatmaps (B,K,size,size), joint by joint"
    out = np.zeros((*kp.shape[:2], size, size), np.float32)
    for i in range(kp.shape[0]):
        for k in range(kp.shape[1]):
            if visible[i, k]:
                x, y = ((kp[i, k] + 1) * size / 2 - 0.5).tolist()
                out[i, k] = label_map(x, y, size, size, sigma)
    return torch.from_numpy(out)


def peak(hm, beta, radius=5.0):
    "Position in [-1,1] of one heatmap's highest peak, refined in a window around it"
    h, w = hm.shape
    hm = np.maximum(hm, 0)
    y, x = np.unravel_index(hm.argmax(), hm.shape)
    v, u = np.mgrid[:h, :w]
    near = (np.abs(v - y) <= radius) & (np.abs(u - x) <= radius)
    p = np.where(near, hm, 0)
    p = np.exp(beta * (p / max(p.max(), 1e-3) - 1)) - math.exp(-beta)
    return np.array([((2 * u + 1) / w - 1) * p, ((2 * v + 1) / h - 1) * p]).sum((1, 2)) / max(
        p.sum(), 1e-6
    )


def pseudo_labels(hm, M, gamma, beta, sigma):
    "Joints (B,K,2), mask and target maps of the augmented view, joint by joint on the host"
    hm, M = hm.cpu().numpy(), M.cpu().numpy()
    B, K, h, w = hm.shape
    kp = np.zeros((B, K, 2), np.float32)
    mask = np.zeros((B, K), bool)
    maps = np.zeros_like(hm)
    for i in range(B):
        for k in range(K):
            kp[i, k] = M[i][:, :2] @ peak(hm[i, k], beta) + M[i][:, 2]
            mask[i, k] = hm[i, k].max() > gamma and np.abs(kp[i, k]).max() <= 1
            if mask[i, k]:
                maps[i, k] = label_map(*((kp[i, k] + 1) * w / 2 - 0.5), h, w, sigma)
    return torch.from_numpy(kp), torch.from_numpy(mask), torch.from_numpy(maps)


def bone_factor(p, c, size, sigma2):
    "Map (B,size,size) and [U S^(1/2), mu] (B,2,3) of one bone: pixel sums, then an SVD on the host"
    ax = (2 * torch.arange(size, device=p.device) + 1) / size - 1
    g = torch.stack(torch.meshgrid(ax, ax, indexing='xy'), -1)
    e = c - p
    q = g - p[:, None, None]
    t = ((q * e[:, None, None]).sum(-1) / (e**2).sum(-1)[:, None, None].clamp_min(1e-8)).clamp(0, 1)
    b = torch.exp(-(q - t[..., None] * e[:, None, None]).norm(dim=-1) / sigma2)
    mu = (p + c) / 2
    r = g - mu[:, None, None]
    cov = (b[..., None, None] * r[..., :, None] * r[..., None, :]).sum((1, 2)) / b.sum((1, 2))[
        :, None, None
    ]
    U, S, _ = torch.linalg.svd(cov.cpu())
    U, S = U.to(p.device), S.to(p.device)
    along = (
        ((U[:, :, 0] * e).sum(-1) >= 0).float() * 2 - 1
    )  # LAPACK leaves both signs open: point the first axis to the child, make the second its left normal
    u = U[:, :, 0] * along[:, None]
    n = torch.stack([-u[:, 1], u[:, 0]], -1)
    return b, torch.stack([u * S[:, :1].sqrt(), n * S[:, 1:].sqrt(), mu], -1)


def bone_transforms(kp_base, kp_driving, bones, size, sigma2):
    "Maps of both images (B,J,size,size) and matrices driving to base (B,J,2,3), bone by bone"
    maps_b, maps_d, Ms = [], [], []
    for p, c in bones:
        b, A = bone_factor(kp_base[:, p], kp_base[:, c], size, sigma2)
        d, D = bone_factor(kp_driving[:, p], kp_driving[:, c], size, sigma2)
        M = A[..., :2] @ torch.linalg.inv(D[..., :2].cpu()).to(D.device)
        maps_b.append(b)
        maps_d.append(d)
        Ms.append(torch.cat([M, A[..., 2:] - M @ D[..., 2:]], -1))
    return torch.stack(maps_b, 1), torch.stack(maps_d, 1), torch.stack(Ms, 1)


def lift(px, depth, K, root, bone):
    "3D joints (B,N,3) in reference-bone lengths of a 2.5D pose, sample by sample"
    out = []
    for p, d, k in zip(*(v.cpu().double().numpy() for v in (px, depth, K))):
        ray = np.stack([np.linalg.solve(k, [x, y, 1]) for x, y in p])
        d = d - d[root]
        n, m = bone
        # |(z+d_m) r_m - (z+d_n) r_n| = 1, a quadratic in the depth z of the root
        a = ray[m] - ray[n]
        b = d[m] * ray[m] - d[n] * ray[n]
        A, B, C = a @ a, 2 * a @ b, b @ b - 1
        z = (-B + math.sqrt(max(B * B - 4 * A * C, 0))) / (2 * A)
        out.append(ray * (np.clip(z, 2, 500) + d)[:, None])
    return torch.from_numpy(np.stack(out))


def turn(f, a):
    "Axes of the next frame after flexion f and abduction a"
    sf = math.sin(f)
    cf = math.cos(f)
    sa = math.sin(a)
    ca = math.cos(a)
    return np.array([[ca, -sa * sf, -sa * cf], [0, cf, -sf], [sa, ca * sf, ca * cf]])


def correct(xyz, limits):
    "Poses (B,K,3) with lengths and angles clipped to their ranges, sample by sample and bone by bone from the root"
    t = limits.tree
    root = limits.skeleton.root
    out = []
    flex = np.radians(limits.flexion.numpy())
    abd = np.radians(limits.abduction.numpy())
    length = limits.length.numpy()
    rest = limits.rest.numpy()
    unit = lambda v: v / max(np.linalg.norm(v), 1e-9)
    for pose in xyz.cpu().double().numpy():
        x = pose - pose[root]
        y = x.copy()
        L = np.array([np.linalg.norm(x[c] - x[p]) for p, c in zip(t.parent, t.child)])
        ratio = L / length.mean(1)
        s = max(L[limits.reference], 0.1 * np.sort(ratio)[(len(ratio) - 1) // 2])
        a, b = limits.frame
        z = unit(x[t.child[a]])
        v = x[t.child[b]] - x[t.parent[b]]
        w = unit(v - (v @ z) * z)
        F = {-1: np.stack([np.cross(w, z), w, z])}
        for level in t.levels:
            for j in level:
                at = y[t.parent[j]]
                v = x[t.child[j]] - at
                size = np.linalg.norm(v)
                mid = flex[j].mean()
                half = min((flex[j][1] - flex[j][0]) / 2, math.pi)
                Q = turn(mid, 0) @ rest[j] @ F[t.up[j]]
                d = Q @ unit(v)
                f = np.clip(math.atan2(d[1], d[2]), -half, half)
                ab = np.clip(math.atan2(d[0], math.hypot(d[1], d[2])), *abd[j])
                F[j] = turn(f, ab) @ Q
                y[t.child[j]] = at + np.clip(size, *(s * length[j])) * F[j][2]
        out.append(y + pose[root])
    return torch.from_numpy(np.stack(out))
