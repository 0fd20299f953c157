"""Meta-training: evolution, distillation, LPG's meta-gradient, and promotion."""
