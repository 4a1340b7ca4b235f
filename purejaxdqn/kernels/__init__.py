"""Kernels written for a GPU, by Pallas: what XLA would launch as dozens of small ones."""
