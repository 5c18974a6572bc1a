"""Samplers: how the next plan is proposed."""
