"""Meta-training: evolution, distillation, meta-gradients, proposals, symbolic search.

Import the subpackages; they import jax and need the extra ``train``.
"""
