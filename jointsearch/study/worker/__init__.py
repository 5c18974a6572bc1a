"""Processes that run what a study asks for."""
