"""The scheduler of vLLM V1: the reference, step by step, and the same schedule from event to event."""
