"""Meta-training: evolution, distillation, meta-gradients, and promotion."""
