"""Kernels written for a GPU with Pallas: what XLA would launch as dozens of small ones.

`choice` says for which runs there is one and takes it on a GPU; `mlp_update` is a whole DQN update of a small MLP. Each
equals the plain path, which other machines and other runs go on taking.
"""
