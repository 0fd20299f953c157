"""Train PPO on CartPole with PPO's clip and with a learned drift; draw both curves."""

import sys

from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report.report import Report
from learned_opt_rl.evaluation.runs.run import run

# [run]
config = PPOConfig(total_timesteps=2e5)
rows = []
for rule in ("adam", "lpo/minatar"):  # the drift also trains with Adam
    rows += run(rule, "CartPole-v1", config, seeds=range(5))
print(Report(rows).table)  # mean returns with 95% intervals over the seeds

path = sys.argv[1] if len(sys.argv) > 1 else "first_run.svg"
figures.save(comparison.curves_figure(rows), path)
# [end]
