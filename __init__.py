"""Skeleton-based action recognition with multi-modality co-learning (MMCL, ACM MM 2024)."""

__version__ = "0.1.0"
