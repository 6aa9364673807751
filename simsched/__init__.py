"""simsched: find out which request scheduler an LLM server should run."""

__version__ = "0.1.0"
