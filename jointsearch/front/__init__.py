"""Objectives, Pareto fronts, and choosing a point of one."""
