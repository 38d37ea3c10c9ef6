"""The whole co-learning step on cached features, against the authors' step, which trains an RGB network along.

Theirs decodes a JPEG of 480x480 a clip and takes it through Inception-V3 at 299x299, forward and backward, at every
step; ours reads what a frozen network once made of it. That is another algorithm: the rows say "frozen features", and
beside them stands the fair ratio, the authors' skeleton network on cached features too. Theirs gets its skeletons
ready, ours makes its own; decoding is counted in line, as it is where all cores compute.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmcl.cache.recipe import Recipe
from mmcl.trainer.backbones.bodies import bodies_of
from mmcl.trainer.colearning.objective import Heads, Teachers, build_heads, losses, teachers_of
from mmcl.trainer.config import Config
from mmcl.trainer.data.features import Features, Source
from mmcl.trainer.data.skeleton import batch, body_of, draw, pack
from mmcl.trainer.model import Outputs

from .training_clips import clips
from .training_networks import ONE, TWO, Case, batch_of, ours, unfused
from .training_rows import Call, Row, alternating, faster

POOLED, TEXT, LOGITS, IDS = 2048, 1538, 1000, 3  # dimensions: ours (Inception-V3 and BLIP, pooled), theirs
PICTURE, SEEN = 480, 299  # sides of the person image and of what Inception-V3 is given
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SET = 256  # clips to take batches from
TARGETS = {TWO.name: ("NTU120", "repeat", 2.6), ONE.name: ("NTU60", "zero", 3.3)}


def colearning(reference: Path | None, rounds: int) -> list[Row]:
    inception = find_inception()
    rows = [row for case in (TWO, ONE) for row in times(case, reference, inception, rounds)]
    if inception is None:
        rows.append(
            Row("against the authors' step", "not measured: torchvision is not installed, pip install '.[vision]'")
        )
    return rows


def find_inception() -> Callable[[], nn.Module] | None:
    """Builds Inception-V3 with weights at random; None where torchvision is not installed."""
    try:
        from torchvision.models import inception_v3
    except ImportError:
        return None
    return lambda: inception_v3(weights=None, init_weights=False)


def times(case: Case, reference: Path | None, inception: Callable[[], nn.Module] | None, rounds: int) -> list[Row]:
    name, rule, least = TARGETS.get(case.name, (case.name, "zero", None))
    theirs = unfused(case, reference)
    network = "the original network" if reference else "the plain network"
    mine = our_step(case, rule, theirs)
    found = list[Row]()
    if inception is not None:
        both = alternating([authors_step(case, theirs, inception()), mine], rounds)
        found.append(
            faster(f"{name}, frozen features: co-learning step, times the authors' speed with {network}", both, least)
        )
    both = alternating([cached_step(case, theirs), mine], rounds)
    return [*found, faster(f"{name}: co-learning step, times {network}'s speed on cached features too", both)]


def our_step(case: Case, rule: str, theirs: nn.Module) -> Call:
    """From packed frames and mapped features to new weights; the clips' bodies as the case has them."""
    skeletons = clips(SET, rule)
    order = np.argsort(-skeletons.bodies, kind="stable")
    packed, body = pack(skeletons), body_of(case.layout, case.slots, rule)
    counts, config = torch.from_numpy(skeletons.bodies), Config(window=case.frames)
    rgb, text = (features("rgb", POOLED), features("text", TEXT))
    model = ours(case, theirs).train()
    heads = build_heads(rgb, text, feature_dim=model.classifier.in_features, classes=case.classes, config=config)
    optimizer = sgd([model, heads], fused=True)
    rows = np.concatenate([order[: case.two], order[SET - (case.clips - case.two) :]])
    labels, generator = torch.arange(case.clips) % case.classes, torch.Generator().manual_seed(0)

    def step() -> None:
        x = batch(packed, torch.from_numpy(rows), body, config, draw(generator, case.clips, case.frames))
        bodies = bodies_of(counts[rows], case.slots, x.device) if rule == "zero" else None
        outputs = model(x, bodies)
        descend(optimizer, outputs, labels, teachers_of(rgb, text, rows), heads, config)

    return step


def cached_step(case: Case, theirs: nn.Module) -> Call:
    """The unfused network on features that are ready, with our losses and their optimizer."""
    (x, labels), config = batch_of(case), Config()
    rgb, text = features("rgb", POOLED), features("text", TEXT)
    heads = build_heads(rgb, text, feature_dim=feature_dim(theirs), classes=case.classes, config=config)
    optimizer, rows = sgd([theirs, heads], fused=False), np.arange(case.clips)
    theirs.train()

    def step() -> None:
        descend(optimizer, outputs_of(theirs, x), labels, teachers_of(rgb, text, rows), heads, config)

    return step


def authors_step(case: Case, theirs: nn.Module, inception: nn.Module) -> Call:
    """Pictures decoded, the RGB network trained along, three token ids for text; the same losses."""
    (x, labels), config, pictures = batch_of(case), Config(), jpegs(case.clips)
    heads = Heads(*their_heads(case, feature_dim(theirs), config))
    optimizer = sgd([theirs, inception, heads], fused=False)
    ids, there = torch.rand(case.clips, IDS), torch.ones(case.clips, dtype=torch.bool)
    theirs.train()
    inception.train()

    def step() -> None:
        logits = inception(torch.stack([decoded(picture) for picture in pictures])).logits
        descend(optimizer, outputs_of(theirs, x), labels, Teachers(logits, there, ids, there), heads, config)

    return step


def their_heads(case: Case, dim: int, config: Config) -> tuple[nn.Module | None, nn.Module | None]:
    built = build_heads(
        features("rgb", LOGITS), features("text", IDS), feature_dim=dim, classes=case.classes, config=config
    )
    return built.align, built.refine


def descend(
    optimizer: torch.optim.Optimizer, outputs: Outputs, labels: Tensor, teachers: Teachers, heads: Heads, config: Config
) -> None:
    optimizer.zero_grad()
    losses(outputs, labels, teachers, heads, config, count=len(labels)).total.backward()
    optimizer.step()


def outputs_of(network: nn.Module, x: Tensor) -> Outputs:
    """The unfused network's scores, and the feature that its classifier was given."""
    seen = list[Tensor]()
    hook = network.get_submodule("fc").register_forward_pre_hook(lambda _, entered: seen.append(entered[0]))
    scores = network(x)
    hook.remove()
    return Outputs(seen[0], scores)


def feature_dim(network: nn.Module) -> int:
    return int(network.get_parameter("fc.weight").shape[1])


def sgd(modules: Sequence[nn.Module], *, fused: bool) -> torch.optim.SGD:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=4e-4, fused=fused)


def features(kind: str, dim: int) -> Features:
    """Features of all clips, as a cache has them; noise."""
    values = np.random.default_rng(0).normal(size=(SET, dim)).astype(np.float32)
    source = Source(Recipe(kind, "noise", {"model": "noise"}), {"feature": values}, np.arange(SET))
    return Features((source,), np.ones(SET, bool), (), np.zeros(dim), np.ones(dim))


def jpegs(count: int) -> list[bytes]:
    """Person images of smooth noise, about as large as photographs' are."""
    rng, found = np.random.default_rng(0), list[bytes]()
    for _ in range(count):
        shades = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).resize((PICTURE, PICTURE))
        content = io.BytesIO()
        shades.save(content, "JPEG", quality=90)
        found.append(content.getvalue())
    return found


def decoded(picture: bytes) -> Tensor:
    """A JPEG as Inception-V3 is given it, [3, 299, 299]."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").resize((SEEN, SEEN), Image.Resampling.BILINEAR)
    x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).contiguous().float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
