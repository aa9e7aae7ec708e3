"""Evaluation tasks: a model to scores. lm-eval is the engine; tasks, statistics and the board are ours."""
