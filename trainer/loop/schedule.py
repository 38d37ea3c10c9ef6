"""The learning rate of each step."""

from __future__ import annotations

from math import cos, pi

from ..config import Config


def base_rate(config: Config) -> float:
    """The rate after the warm-up: `lr`, or `lr` scaled from the batch that it was chosen for to the global batch."""
    return config.lr * config.batch / config.lr_batch if config.lr_batch else config.lr


def learning_rate(config: Config, epoch: int, step: int = 0, steps: int = 1) -> float:
    """The rate of a step; epochs and their `steps` are counted from 0.

    "step": a linear warm-up and a tenth at each milestone, one rate an epoch, as in the papers. "cosine": both the
    warm-up and the fall go step by step, down to 0 at the end of the last epoch.
    """
    base = base_rate(config)
    if config.schedule == "step":
        if epoch < config.warmup:
            return base * (epoch + 1) / config.warmup
        return base * 0.1 ** sum(epoch >= milestone for milestone in config.milestones)
    done, warm, every = epoch * steps + step, config.warmup * steps, config.epochs * steps
    if done < warm:
        return base * (done + 1) / warm
    return base * (1 + cos(pi * (done - warm) / (every - warm))) / 2
