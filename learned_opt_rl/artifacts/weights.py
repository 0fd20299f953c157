"""What an artifact has on disk: safetensors, flat vectors, texts of closed forms.

Bytes are trusted in a fixed order: size limit, sha256, format, dtype, finite values,
shapes. Nothing is ever unpickled.
"""

from learned_opt_rl.artifacts._bytes import MAX_BYTES as MAX_BYTES
from learned_opt_rl.artifacts._bytes import check_sha256 as check_sha256
from learned_opt_rl.artifacts._bytes import read_limited as read_limited
from learned_opt_rl.artifacts._check import check_weights as check_weights
from learned_opt_rl.artifacts._expression_file import load_expression as load_expression
from learned_opt_rl.artifacts._flat_npy import from_flat_npy as from_flat_npy
from learned_opt_rl.artifacts._safetensors import load_safetensors as load_safetensors
from learned_opt_rl.artifacts._safetensors import save_safetensors as save_safetensors
from learned_opt_rl.artifacts._tree import WeightTree as WeightTree
from learned_opt_rl.artifacts._tree import flatten_names as flatten_names
from learned_opt_rl.artifacts._tree import unflatten_names as unflatten_names
