"""`vfab bench`: what vfab costs, measured beside its peers in the same run. One small module a subject."""

from vfab.apps.bench.run import SUBJECTS, all_keys, run_bench

__all__ = ["SUBJECTS", "all_keys", "run_bench"]
