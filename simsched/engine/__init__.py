"""Schedulers of LLM engines behind one protocol, and the simulated clock; importing it registers them."""

from simsched.engine import presets as presets
