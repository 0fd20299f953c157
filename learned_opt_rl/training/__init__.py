"""Re-discovers artifacts: evolution, distillation, meta-gradients."""
