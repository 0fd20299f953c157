"""Write the weights of sign-momentum and print the sha256 for its card."""

import pathlib

import numpy as np

from learned_opt_rl.artifacts.weights import save_safetensors

WEIGHTS = {"momentum": {"decay": np.float32(0.9)}, "step_size": np.float32(3e-4)}

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent / "example_rl_optimizer/sign_momentum"
    print(save_safetensors(folder / "weights.safetensors", WEIGHTS))
