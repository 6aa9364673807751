"""Fidelity jobs on real vLLM; run from a checkout's root: `python -m validate lockstep | replay | ...`."""
