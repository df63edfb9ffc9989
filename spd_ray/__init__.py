"""Sparse Progressive Distillation (Huang et al., ACL 2022, arXiv:2110.08190) as a system to sweep with."""

__version__ = "0.1.0"
