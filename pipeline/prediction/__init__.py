"""Skeleton files of every format that `mmcl prepare` reads, one after another."""
