"""Contenders and measurements that need more than the package's own harness."""
